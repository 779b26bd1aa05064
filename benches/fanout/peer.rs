//! axum with a `tokio::sync::broadcast` channel on a current-thread runtime: the good version, which encodes each event once.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use crate::Outcome;
use crate::frame;
use crate::worlds::Row;
use crate::writers::{Order, Schedule, next_order, say, tell};

/// A stream's head and first comment, for writers that have none of their own.
pub(crate) const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
    Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\nretry:3000\n:\n\n";

/// Events that may wait in the channel. A publisher that outruns its subscribers waits, so that none of them is made to skip.
const CHANNEL: usize = 1024;

/// Runs the peer in this process.
pub(crate) fn axum(row: &Row) -> Outcome<()> {
    // Orders are read by a thread of its own: standard input would block the runtime.
    let (order, mut orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(next) = next_order()
            && order.send(next).is_ok()
            && next != Order::End
        {}
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (sender, _) = broadcast::channel::<Bytes>(CHANNEL);
        let app = axum::Router::new()
            .route("/subscribe/{*namespace}", axum::routing::get(subscribe))
            .with_state(sender.clone());
        let listener = tokio::net::TcpListener::from_std(listen()?)?;
        say(listener.local_addr()?)?;
        tokio::spawn(async move {
            use axum::serve::ListenerExt;
            let listener = listener.tap_io(|stream| {
                let _ = stream.set_nodelay(true);
            });
            axum::serve(listener, app).await
        });
        loop {
            match orders.recv().await {
                Some(Order::Tell) => tell()?,
                Some(Order::Go) => say(publish(row, &sender).await)?,
                _ => return Ok(()),
            }
        }
    })
}

fn listen() -> Outcome<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket2::SockRef::from(&listener).listen(i32::from(u16::MAX))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn subscribe(State(sender): State<broadcast::Sender<Bytes>>) -> Response {
    let frames = BroadcastStream::new(sender.subscribe()).map_while(
        |frame: Result<Bytes, BroadcastStreamRecvError>| frame.ok().map(Ok::<_, Infallible>),
    );
    let hello = tokio_stream::once(Ok(Bytes::from_static(b":\n\n")));
    Response::builder()
        .header("content-type", "text/event-stream")
        .header("cache-control", "no-cache")
        .body(Body::from_stream(hello.chain(frames)))
        .expect("the head is well-formed")
}

async fn publish(row: &Row, sender: &broadcast::Sender<Bytes>) -> u64 {
    let mut schedule = Schedule::start(row);
    while let Some((number, due)) = schedule.next() {
        if let Some(wait) = schedule.wait(due) {
            tokio::time::sleep(wait).await;
        }
        while sender.len() >= CHANNEL / 2 {
            tokio::task::yield_now().await;
        }
        let mut run = Vec::with_capacity(row.frame);
        frame::append(&mut run, number, due, row.frame);
        // Nobody listening is no failure of the publisher.
        let _ = sender.send(run.into());
    }
    schedule.count()
}
