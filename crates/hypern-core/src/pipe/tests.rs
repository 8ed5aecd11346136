//! What of a pipe cannot be seen from outside: its buffers, and its rests.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Buf;

use super::state::{KEPT_WHEN_IDLE, RUSH};
use super::*;
use crate::body::StreamBody;
use crate::pulse;
use crate::watch::Watch;

#[test]
fn an_idle_stream_keeps_no_large_buffer() {
    let pipe = Pipe::new(Kind::Chunks, None, Vec::new(), Presence::new());
    let mut context = Context::from_waker(Waker::noop());
    let pulse = Pulse::default();
    let mut take = || match pipe.poll_take(&mut context, &pulse) {
        Poll::Ready(Some(Ok(in_flight))) => in_flight,
        other => panic!("no data: {other:?}"),
    };
    let item = vec![b'x'; CAPACITY / 4];
    let held = || pipe.state.lock().buffer.capacity() + pipe.reading.lock().spare.capacity();

    pipe.write(&item).expect("open");
    let first = take();
    pipe.write(&item).expect("open");
    drop(first);
    assert!(held() >= 2 * item.len(), "a busy stream keeps what it will need");
    drop(take());
    assert_eq!(held(), 0);

    pipe.write(b"small").expect("open");
    drop(take());
    assert!((1..=KEPT_WHEN_IDLE).contains(&held()), "a slow stream need not allocate for each item");
}

/// A stream that has just sent for the last time before it rests, on a paused clock: every item comes in a hurry.
async fn in_a_burst(watch: &Arc<Watch>) -> (Arc<Pipe>, StreamBody) {
    let beating = watch.clone();
    tokio::spawn(async move { beating.pulse.run().await });
    tokio::task::yield_now().await;
    let pipe = Pipe::new(Kind::Events { ping: None }, None, Vec::new(), Presence::new());
    let mut stream = StreamBody::new(pipe.clone(), None, watch);
    for _ in 0..=RUSH {
        pipe.write(b"event").expect("open");
        assert_eq!(taken(&mut stream).expect("sent at once").as_deref(), Some("event"));
    }
    (pipe, stream)
}

/// What the stream has now: nothing yet, its end, or some text, which is sent then.
fn taken(stream: &mut StreamBody) -> Option<Option<String>> {
    match stream.poll_chunk(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Some(Ok(chunk))) => Some(Some(String::from_utf8_lossy(chunk.chunk()).into_owned())),
        Poll::Ready(Some(Err(cut))) => panic!("{cut}"),
        Poll::Ready(None) => Some(None),
        Poll::Pending => None,
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_burst_writes_leaves_together() {
    let watch = Watch::new();
    let (pipe, mut stream) = in_a_burst(&watch).await;
    pipe.write(b"one").expect("open");
    assert_eq!(taken(&mut stream), None, "the stream rests");
    pipe.write(b" two").expect("open");
    tokio::time::advance(pulse::HURRY).await;

    let chunk = std::future::poll_fn(|context| stream.poll_chunk(context)).await;
    assert_eq!(chunk.expect("open").expect("no cut").chunk(), b"one two");
    pipe.write(b"three").expect("open");
    assert_eq!(taken(&mut stream), None, "the burst goes on");
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_ends_or_has_gathered_enough_does_not_rest() {
    let watch = Watch::new();
    let (pipe, mut stream) = in_a_burst(&watch).await;
    pipe.write(&[b'x'; GATHERED]).expect("open");
    assert_eq!(taken(&mut stream).flatten().map(|text| text.len()), Some(GATHERED));
    pipe.write(b"last").expect("open");
    pipe.finish();
    assert_eq!(taken(&mut stream).flatten().as_deref(), Some("last"));
    assert_eq!(taken(&mut stream), Some(None));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_does_not_hurry_never_rests() {
    let watch = Watch::new();
    let (pipe, mut stream) = in_a_burst(&watch).await;
    for _ in 0..=RUSH {
        tokio::time::advance(pulse::HURRY).await;
        pipe.write(b"event").expect("open");
        assert_eq!(taken(&mut stream).flatten().as_deref(), Some("event"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_resting_reader_is_woken_by_the_end_and_by_a_full_buffer_only() {
    let ends: [fn(&Pipe); 2] = [Pipe::finish, |pipe| assert_eq!(pipe.write(&[b'x'; GATHERED]), Ok(GATHERED))];
    for end in ends {
        let watch = Watch::new();
        let (pipe, mut stream) = in_a_burst(&watch).await;
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        pipe.write(b"one").expect("open");
        assert!(stream.poll_chunk(&mut Context::from_waker(&waker)).is_pending());
        pipe.write(b"two").expect("open");
        assert!(!woken.0.load(Ordering::SeqCst), "it comes by itself");
        end(&pipe);
        assert!(woken.0.load(Ordering::SeqCst));
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
