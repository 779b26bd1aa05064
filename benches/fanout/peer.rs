//! axum with a `tokio::sync::broadcast` channel on a current-thread runtime, in two versions: one
//! encodes each event once and broadcasts bytes, the other broadcasts axum's own events.

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

/// The head and the first comment of a stream, for the bare writer.
pub(crate) const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\
    Cache-Control: no-cache, no-transform\r\nX-Accel-Buffering: no\r\nConnection: close\r\n\r\nretry:3000\n:\n\n";

/// Capacity of the channel in events. The publisher waits before it is full, so that no subscriber
/// skips events.
const CHANNEL: usize = 1024;

/// Runs the peer in this process.
pub(crate) fn axum(row: &Row) -> Result<()> {
    // A separate thread reads orders, as reading standard input would block the runtime.
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
        Writer::AxumSse => runtime.block_on(serve(row, orders, axum_event, axum_stream)),
        _ => runtime.block_on(serve(row, orders, encoded_event, encoded_stream)),
    }
}

fn encoded_event(number: u64, due_ns: u64, bytes: usize) -> Bytes {
    let mut buffer = Vec::with_capacity(bytes);
    frame::append(&mut buffer, number, due_ns, bytes);
    buffer.into()
}

fn encoded_stream(frames: BroadcastStream<Bytes>) -> Response {
    let first = tokio_stream::once(Bytes::from_static(b":\n\n"));
    let frames = first.chain(frames.map_while(Result::ok));
    Response::builder()
        .header("content-type", "text/event-stream")
        .header("cache-control", "no-cache")
        .body(Body::from_stream(frames.map(Ok::<_, Infallible>)))
        .expect("the head is valid")
}

fn axum_event(number: u64, due_ns: u64, bytes: usize) -> Event {
    Event::default().data(frame::data(number, due_ns, bytes))
}

fn axum_stream(events: BroadcastStream<Event>) -> Response {
    let first = tokio_stream::once(Event::default().comment(""));
    let events = first.chain(events.map_while(Result::ok));
    Sse::new(events.map(Ok::<_, Infallible>))
        .keep_alive(KeepAlive::default())
        .into_response()
}

/// Serves streams of the events that `make` encodes.
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
    while let Some((number, due_ns)) = pacer.next() {
        if let Some(wait) = pacer.wait(due_ns) {
            tokio::time::sleep(wait).await;
        }
        while sender.len() >= CHANNEL / 2 {
            tokio::task::yield_now().await;
        }
        // Sending fails if there are no subscribers, which is not an error here.
        let _ = sender.send(make(number, due_ns, row.frame));
    }
    pacer.count()
}
