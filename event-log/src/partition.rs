//! Assigns keys to partitions, exactly as Kafka's own clients do.

use domain::ConversationId;

/// The partition of a conversation's events, on a topic with this number of partitions.
pub fn partition_of(conversation: ConversationId, partitions: usize) -> i32 {
    partition_for(conversation.to_string().as_bytes(), partitions)
}

/// The partition of a key: murmur2, as Java's default partitioner and librdkafka's `murmur2_random` use it
/// (`org.apache.kafka.common.utils.Utils.murmur2`).
pub fn partition_for(key: &[u8], partitions: usize) -> i32 {
    let positive = murmur2(key) & 0x7fff_ffff;
    let partitions = u32::try_from(partitions.max(1)).unwrap_or(u32::MAX);
    i32::try_from(positive % partitions).unwrap_or(0)
}

fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Keys are a few dozen bytes.
    let mut h = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, rest) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * index);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::{murmur2, partition_for};

    #[test]
    fn keys_hash_as_in_java() {
        // The vectors of Kafka's own UtilsTest.testMurmur2.
        let cases: [(&[u8], i32); 6] = [
            (b"21", -973_932_308),
            (b"foobar", -790_332_482),
            (b"a-little-bit-long-string", -985_981_536),
            (b"a-little-bit-longer-string", -1_486_304_829),
            (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            (b"abc", 479_470_107),
        ];
        for (key, hash) in cases {
            assert_eq!(murmur2(key).cast_signed(), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit() {
        // Utils.toPositive(-790332482) % 12
        assert_eq!(partition_for(b"foobar", 12), 6);
        assert_eq!(partition_for(b"foobar", 1), 0);
    }
}
