//! An output that is hashed on the way.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

/// An output that counts what is written to it, and hashes it.
pub(super) struct HashedOutput<W> {
    out: W,
    digest: Sha256,
    bytes: u64,
}

impl<W> HashedOutput<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, digest: Sha256::new(), bytes: 0 }
    }

    /// The output, the number of bytes, and their SHA-256 in hex.
    pub(super) fn into_parts(self) -> (W, u64, String) {
        let sha256 = self.digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (self.out, self.bytes, sha256)
    }
}

impl<W: Write> Write for HashedOutput<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.out.write(buffer)?;
        self.digest.update(buffer.get(..written).unwrap_or(buffer));
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
