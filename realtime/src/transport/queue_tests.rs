//! What waits for sockets, over connections that take bytes or don't.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use socketioxide::socket::Sid;
use tokio::io::AsyncWrite;

use super::connections::Connections;
use super::send_queue::{SendQueue, Sent, Urgency};
use super::wire_frame::WireFrame;

/// A connection that takes everything, or nothing.
#[derive(Default)]
struct Wire {
    is_open: bool,
    taken: Vec<u8>,
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if !self.is_open {
            return Poll::Pending;
        }
        self.taken.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn write(queue: &SendQueue, wire: &mut Wire) {
    let written = queue.poll_write_queued(Pin::new(wire), &mut Context::from_waker(Waker::noop()));
    assert!(written.is_pending(), "{written:?}");
}

fn frame(connections: &Connections, text: &str) -> Arc<WireFrame> {
    connections.encode("message:new", &(text,)).unwrap()
}

/// How many frames of this size a queue takes.
fn taken(queue: &SendQueue, connections: &Connections, bytes: usize) -> usize {
    let large = frame(connections, &"x".repeat(bytes));
    (0..1_000).take_while(|_| queue.push(&large, Urgency::Live) == Sent::Queued).count()
}

#[test]
fn a_frame_overtakes_nothing_that_the_library_got_before() {
    let connections = Connections::new();
    let (queue, mut wire) = (connections.new_queue(), Wire { is_open: true, ..Wire::default() });
    assert_eq!(queue.enter_library(32), Sent::Queued);
    assert_eq!(queue.push(&frame(&connections, "one"), Urgency::Live), Sent::Queued);
    write(&queue, &mut wire);
    assert_eq!(wire.taken, b"", "the library has not written the packet that connects the socket");

    for packet in [&b"\x81\x012"[..], b"\x81\x0440{}"] {
        let accepted = queue.accept(&Context::from_waker(Waker::noop()), packet);
        assert!(matches!(accepted, Poll::Ready(Ok(_))));
    }
    assert_eq!(queue.push(&frame(&connections, "two"), Urgency::Live), Sent::Queued);
    write(&queue, &mut wire);

    let written = String::from_utf8_lossy(&wire.taken).into_owned();
    let order: Vec<_> = ["2", "40{}", "\"one\"", "\"two\""].map(|text| written.find(text)).into();
    assert!(order.is_sorted() && order[0].is_some(), "{written}");
}

#[test]
fn a_client_that_takes_nothing_has_less_room_than_one_that_takes_everything() {
    let connections = Connections::new();
    let [blocked, taking] = [connections.new_queue(), connections.new_queue()];
    assert_eq!(taken(&blocked, &connections, 1), 1_000);
    write(&blocked, &mut Wire::default());
    assert_eq!(taken(&blocked, &connections, 62 << 10), 3);
    assert_eq!(taken(&taking, &connections, 62 << 10), 33);
}

#[tokio::test(start_paused = true)]
async fn when_too_much_waits_on_the_node_those_are_closed_that_have_taken_nothing_for_the_longest_time() {
    const QUEUES: usize = 300;
    let connections = Connections::new();
    // Each has frames of its own: together, more than the node may hold.
    let add = || {
        let queue = connections.new_queue();
        queue.socket.set(Sid::new()).unwrap();
        assert_eq!(queue.push(&frame(&connections, &"x".repeat(240 << 10)), Urgency::Live), Sent::Queued);
        queue
    };
    let taking = add();
    let mut blocked = Vec::new();
    for _ in 0..QUEUES {
        tokio::time::advance(Duration::from_millis(1)).await;
        let queue = add();
        write(&queue, &mut Wire::default());
        blocked.push(queue);
        connections.make_room();
    }

    let is_closed = |queue: &Arc<SendQueue>| queue.push(&frame(&connections, "x"), Urgency::Live) == Sent::Ended;
    let closed = blocked.iter().take_while(|queue| is_closed(queue)).count();
    assert!((10..QUEUES / 2).contains(&closed), "{closed}");
    assert!(!blocked[closed..].iter().any(is_closed), "one that had waited for a shorter time is closed");
    assert!(!is_closed(&taking), "the oldest takes what the node writes");
    let waiting = blocked.len() - closed;
    drop((blocked, taking));
    assert!(waiting * (240 << 10) < 64 << 20);
}
