//! axum with a `tokio::sync::broadcast` channel on a current-thread runtime: the good version, which encodes each event once and
//! broadcasts bytes, and the usual one with axum's own events.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::BroadcastStream;

use crate::Result;
use crate::frame;
use crate::workloads::{Row, Writer};
use crate::writer::{Order, Pacer, next_order, write_line, write_usage};

/// A stream's head and first comment, for writers that have none of their own.
pub(crate) const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
    Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\nretry:3000\n:\n\n";

/// Events that may wait in the channel. A publisher that outruns its subscribers waits, so that none of them is made to skip.
const CHANNEL: usize = 1024;

/// Runs the peer in this process.
pub(crate) fn axum(row: &Row) -> Result<()> {
    // Orders are read by a thread of its own: standard input would block the runtime.
    let (order, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        while let Ok(next) = next_order()
            && order.send(next).is_ok()
            && next != Order::End
        {}
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match row.writer {
        Writer::AxumSse => runtime.block_on(serve(row, orders, usual, usual_stream)),
        _ => runtime.block_on(serve(row, orders, good, good_stream)),
    }
}

fn good(number: u64, due: u64, bytes: usize) -> Bytes {
    let mut run = Vec::with_capacity(bytes);
    frame::append(&mut run, number, due, bytes);
    run.into()
}

fn good_stream(frames: BroadcastStream<Bytes>) -> Response {
    let hello = tokio_stream::once(Bytes::from_static(b":\n\n"));
    let frames = hello.chain(frames.map_while(Result::ok));
    Response::builder()
        .header("content-type", "text/event-stream")
        .header("cache-control", "no-cache")
        .body(Body::from_stream(frames.map(Ok::<_, Infallible>)))
        .expect("the head is well-formed")
}

fn usual(number: u64, due: u64, bytes: usize) -> Event {
    Event::default().data(frame::data(number, due, bytes))
}

fn usual_stream(events: BroadcastStream<Event>) -> Response {
    let hello = tokio_stream::once(Event::default().comment(""));
    let events = hello.chain(events.map_while(Result::ok));
    Sse::new(events.map(Ok::<_, Infallible>))
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// Serves streams of what `make` makes of each event.
async fn serve<T: Clone + Send + 'static>(
    row: &Row,
    mut orders: mpsc::UnboundedReceiver<Order>,
    make: fn(u64, u64, usize) -> T,
    respond: fn(BroadcastStream<T>) -> Response,
) -> Result<()> {
    let (sender, _) = broadcast::channel::<T>(CHANNEL);
    let source = sender.clone();
    let subscribe = move || std::future::ready(respond(BroadcastStream::new(source.subscribe())));
    let app = axum::Router::new().route("/subscribe/{*namespace}", axum::routing::get(subscribe));
    let listener = tokio::net::TcpListener::from_std(listen()?)?;
    write_line(listener.local_addr()?)?;
    tokio::spawn(async move {
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, app).await
    });
    loop {
        match orders.recv().await {
            Some(Order::Usage) => write_usage()?,
            Some(Order::Publish) => write_line(publish(row, &sender, make).await)?,
            _ => return Ok(()),
        }
    }
}

fn listen() -> Result<std::net::TcpListener> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    socket2::SockRef::from(&listener).listen(i32::from(u16::MAX))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn publish<T>(
    row: &Row,
    sender: &broadcast::Sender<T>,
    make: fn(u64, u64, usize) -> T,
) -> u64 {
    let mut pacer = Pacer::start(row);
    while let Some((number, due)) = pacer.next() {
        if let Some(wait) = pacer.wait(due) {
            tokio::time::sleep(wait).await;
        }
        while sender.len() >= CHANNEL / 2 {
            tokio::task::yield_now().await;
        }
        // Nobody listening is no failure of the publisher.
        let _ = sender.send(make(number, due, row.frame));
    }
    pacer.count()
}
