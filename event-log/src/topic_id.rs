//! Asks a broker for a topic's id (KIP-516) and its number of partitions. The id tells a topic from another that somebody
//! creates later under the same name.
//!
//! librdkafka can ask for the id, but its Rust wrapper can't yet. That is why this module calls C. No other module may
//! call librdkafka's C functions with pointers that it owns.

use std::ffi::{CStr, CString, c_char, c_int};

use rdkafka::admin::AdminClient;
use rdkafka::bindings as c;
use uuid::Uuid;

use crate::client::{self, Admin, KafkaContext};

/// How long the broker may take to answer, in milliseconds.
const TIMEOUT_MS: c_int = 10_000;

/// An object of librdkafka, with its destructor. Frees the object on every path out of a function.
struct Owned<T>(*mut T, unsafe extern "C" fn(*mut T));

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: the pointer came from the constructor that belongs to this destructor, and is freed once.
            unsafe { (self.1)(self.0) }
        }
    }
}

/// What must never change of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicIdentity {
    pub(crate) id: Uuid,
    pub(crate) partitions: usize,
}

/// Asks for a topic's identity, for up to 10 s.
///
/// # Errors
/// What the broker or librdkafka reports, as text.
pub(crate) async fn identify(admin: Admin, topic: String) -> Result<TopicIdentity, String> {
    let described = client::run_blocking(move || describe(&admin, &topic)).await;
    described.map_err(|error| error.to_string())?
}

/// Asks for a topic's identity. Blocks up to 10 s.
fn describe(admin: &AdminClient<KafkaContext>, topic: &str) -> Result<TopicIdentity, String> {
    let name = CString::new(topic).map_err(|_| "the topic's name contains a NUL".to_owned())?;
    let client = admin.inner().native_ptr();
    let mut names = [name.as_ptr()];
    // SAFETY: `client` lives as long as `admin`, which is borrowed. `names` and what it points to outlive the
    // call that reads them. `Owned` frees every object that this function creates: the results before the event that
    // owns them (they borrow from it and have no destructor of their own).
    unsafe {
        let topics = Owned(
            c::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1),
            c::rd_kafka_TopicCollection_destroy,
        );
        let operation = c::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = Owned(c::rd_kafka_AdminOptions_new(client, operation), c::rd_kafka_AdminOptions_destroy);
        let mut message = [0; 256];
        c::rd_kafka_AdminOptions_set_request_timeout(options.0, TIMEOUT_MS, message.as_mut_ptr(), message.len());
        let queue = Owned(c::rd_kafka_queue_new(client), c::rd_kafka_queue_destroy);
        c::rd_kafka_DescribeTopics(client, topics.0, options.0, queue.0);
        let event = Owned(c::rd_kafka_queue_poll(queue.0, TIMEOUT_MS), c::rd_kafka_event_destroy);
        if event.0.is_null() {
            return Err("the broker did not answer in 10 s".to_owned());
        }
        if c::rd_kafka_event_error(event.0) != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(c::rd_kafka_event_error_string(event.0)));
        }
        let result = c::rd_kafka_event_DescribeTopics_result(event.0);
        let mut count = 0;
        let described = c::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if described.is_null() || count != 1 {
            return Err("the broker described no topic".to_owned());
        }
        let error = c::rd_kafka_TopicDescription_error(*described);
        if !error.is_null() && c::rd_kafka_error_code(error) != c::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(text(c::rd_kafka_error_string(error)));
        }
        let id = c::rd_kafka_TopicDescription_topic_id(*described);
        if id.is_null() {
            return Err("the broker returned no topic id".to_owned());
        }
        let high = c::rd_kafka_Uuid_most_significant_bits(id).cast_unsigned();
        let low = c::rd_kafka_Uuid_least_significant_bits(id).cast_unsigned();
        let mut partitions = 0;
        c::rd_kafka_TopicDescription_partitions(*described, &raw mut partitions);
        Ok(TopicIdentity { id: Uuid::from_u64_pair(high, low), partitions })
    }
}

/// Copies a C string.
///
/// # Safety
/// `pointer` is null or a C string that lives during the call.
unsafe fn text(pointer: *const c_char) -> String {
    if pointer.is_null() {
        return "an unknown error".to_owned();
    }
    // SAFETY: the caller promises it.
    unsafe { CStr::from_ptr(pointer) }.to_string_lossy().into_owned()
}
