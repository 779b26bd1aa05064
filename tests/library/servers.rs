//! The library as an application uses it: publishers, handles, subscriptions, hooks, and several
//! servers at once.

use std::mem::ManuallyDrop;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::support::{
    Client, LAST, TIMEOUT, body, builder, expect_no_event, header, join_within, next_data, request,
    start, start_at, status, within,
};
use fanfare::{
    ConnectionInfo, Disconnect, DisconnectReason, Event, EventError, Namespace, Publisher,
    RecvTimeoutError, Routing, SendError, Server, State, Status, StreamEvent, SubscribeError,
};

fn namespace(path: &str) -> Namespace {
    Namespace::parse(path).expect("a namespace")
}

// Options

#[test]
fn an_invalid_option_is_an_error_that_says_what_is_expected() {
    let error = |builder: fanfare::Builder| builder.build().unwrap_err().to_string();
    let micros = Duration::from_micros(3);
    assert_eq!(
        error(Server::builder().coalesce(micros)),
        "coalesce: 3µs is less than the minimum of 1ms, and is not 0"
    );
    assert_eq!(
        error(Server::builder().retry(Duration::from_secs(25 * 3600))),
        "retry: 25h exceeds the maximum of 24h"
    );
    assert_eq!(
        error(Server::builder().max_event(0)),
        "max-event: 0 is less than the minimum of 1B"
    );
}

#[test]
fn tokens_are_not_in_debug_output() {
    let builder = Server::builder().publish_token("hush");
    #[cfg(feature = "admin")]
    let builder = builder.admin_token("hush");
    let text = format!("{builder:?}");
    let server = builder.build().unwrap();
    for text in [
        text,
        format!("{server:?}"),
        format!("{:?}", server.handle()),
    ] {
        assert!(!text.contains("hush"), "{text}");
    }
}

// Publishers

#[test]
fn clones_of_a_publisher_share_the_queue_and_no_event_is_lost() {
    const EACH: usize = 20_000;
    const THREADS: usize = 4;
    let server = start(builder().queue(64));
    let mut subscribers: Vec<Client> = ["/subscribe", "/subscribe?ns=/0&ns=/1&ns=/2&ns=/3"]
        .map(|target| server.subscribe(target))
        .into();
    let threads: Vec<_> = (0..THREADS)
        .map(|thread| {
            let publisher = server.publisher.clone();
            std::thread::spawn(move || {
                let name = format!("/{thread}");
                for number in 0..EACH {
                    let event = Event::new(name.as_str(), format!("{thread} {number}"));
                    publisher.send(event).unwrap();
                }
            })
        })
        .collect();
    let readers: Vec<_> = subscribers
        .drain(..)
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut next = [0; THREADS];
                let mut order = Vec::with_capacity(THREADS * EACH);
                for _ in 0..THREADS * EACH {
                    let event = client.read_through("\n\n");
                    let data = event.strip_prefix("data:").unwrap().trim_end();
                    let (thread, number) = data.split_once(' ').unwrap();
                    let thread: usize = thread.parse().unwrap();
                    assert_eq!(number.parse(), Ok(next[thread]));
                    next[thread] += 1;
                    order.push(thread as u8);
                }
                client.expect(LAST);
                order
            })
        })
        .collect();
    threads
        .into_iter()
        .for_each(|thread| join_within(TIMEOUT, thread));
    server.publish_last();
    let orders: Vec<_> = readers
        .into_iter()
        .map(|reader| join_within(TIMEOUT, reader))
        .collect();
    assert!(orders[0] == orders[1], "one total order for all");
    assert_eq!(server.handle.status().events, (THREADS * EACH + 1) as u64);
}

#[test]
fn a_full_queue_gives_the_event_back_and_a_server_takes_it_when_it_runs() {
    let server = builder().queue(2).build().unwrap();
    let publisher = server.publisher();
    let event = |number: usize| Event::new("/a", number.to_string());
    assert_eq!(publisher.try_send(event(0)), Ok(()));
    assert_eq!(publisher.try_send(event(1)), Ok(()));
    let full = Err(SendError::Full(Box::new(event(2))));
    assert_eq!(publisher.try_send(event(2)), full);
    assert_eq!(
        publisher.send_timeout(event(2), Duration::from_millis(1)),
        full
    );
    let sender = std::thread::spawn(move || publisher.send(event(2)));
    let thread = server.spawn("127.0.0.1:0").unwrap();
    assert_eq!(join_within(TIMEOUT, sender), Ok(()));
    thread.handle().shutdown(TIMEOUT);
    let handle = thread.handle().clone();
    within(TIMEOUT, || thread.join()).unwrap();
    assert_eq!(handle.status().events, 3);
}

#[test]
fn the_queue_is_bounded_in_bytes_with_room_for_one_event() {
    let server = builder().queue_bytes(100).build().unwrap();
    let publisher = server.publisher();
    let large = Event::new("/", "x".repeat(1000));
    assert_eq!(publisher.try_send(large.clone()), Ok(()));
    let small = Event::new("/", "x");
    assert_eq!(
        publisher.try_send(small.clone()),
        Err(SendError::Full(Box::new(small)))
    );
    let thread = server.spawn("127.0.0.1:0").unwrap();
    assert_eq!(publisher.send(large), Ok(()));
    thread.handle().shutdown(Duration::ZERO);
    within(TIMEOUT, || thread.join()).unwrap();
}

#[test]
fn an_invalid_event_comes_back_with_the_reason() {
    let server = start(builder());
    let mut client = server.subscribe("/subscribe");
    for (event, expected) in [
        (
            Event::new("/", "").event("a\rb"),
            EventError::ForbiddenCharacter("event"),
        ),
        (
            Event::new("/", "").event("a\nb"),
            EventError::ForbiddenCharacter("event"),
        ),
        (
            Event::new("/", "").id("a\0b"),
            EventError::ForbiddenCharacter("id"),
        ),
        (
            Event::new("/", "x".repeat((1 << 20) + 1)),
            EventError::TooLarge("data", 1 << 20),
        ),
        (Event::encoded("/", "data:x\n"), EventError::NotWhole),
        (
            Event::encoded("/", &b"data:\xff\n\n"[..]),
            EventError::NotUtf8,
        ),
    ] {
        let publisher = &server.publisher;
        let refused = Err(SendError::Refused(expected));
        assert_eq!(publisher.send(event.clone()), refused);
        assert_eq!(publisher.try_send(event.clone()), refused);
        assert_eq!(publisher.send_timeout(event.clone(), TIMEOUT), refused);
        assert_eq!(publisher.broadcast(event), refused);
    }
    for event in [Event::new("/../a", ""), Event::new("/", "").also("/a\nb")] {
        let sent = server.publisher.send(event);
        assert!(matches!(
            sent,
            Err(SendError::Refused(EventError::Namespace(_)))
        ));
    }
    server.publish_last();
    client.expect(LAST);
}

#[test]
fn a_publisher_of_a_dropped_server_reports_that_it_is_closed() {
    let server = Server::new();
    let publisher = server.publisher();
    drop(server);
    let event = Event::new("/", "");
    let closed = Err(SendError::Closed(Box::new(event.clone())));
    assert_eq!(publisher.send(event.clone()), closed);
    assert_eq!(publisher.try_send(event.clone()), closed);
    let closed = Err(SendError::Closed(Box::new(event.clone().to_all())));
    assert_eq!(publisher.broadcast(event), closed);
}

#[test]
fn a_publisher_that_waits_for_room_returns_when_the_server_ends() {
    let server = builder().queue(1).build().unwrap();
    let publisher = server.publisher();
    publisher.send(Event::new("/", "")).unwrap();
    let waiter = std::thread::spawn(move || publisher.send(Event::new("/", "")));
    drop(server);
    assert!(matches!(
        join_within(TIMEOUT, waiter),
        Err(SendError::Closed(_))
    ));
}

// Handles

#[test]
fn a_handle_works_before_while_and_after_its_server_runs() {
    let mut server = builder().build().unwrap();
    let handle = server.handle();
    assert_eq!(handle.local_addr(), None);
    assert_eq!(handle.status(), Status::default());
    assert_eq!(handle.status().state, State::Starting);
    let address = server.bind("127.0.0.1:0").unwrap();
    assert_eq!(handle.local_addr(), Some(address));
    assert_eq!(handle.status().state, State::Starting);
    // The request comes before the server runs; the reply comes when it does.
    let early = handle.clone();
    let subscribes = std::thread::spawn(move || early.subscribe(&[Namespace::root()]));
    let thread = std::thread::spawn(move || server.run());
    let subscription = join_within(TIMEOUT, subscribes).unwrap();
    let running = handle.status();
    assert_eq!((running.state, running.subscribers), (State::Serving, 1));
    handle.shutdown(TIMEOUT);
    join_within(TIMEOUT, thread).unwrap();
    let subscription = expect_no_event(subscription);
    assert_eq!(subscription.reason(), Some(DisconnectReason::Shutdown));
    let last = handle.status();
    assert_eq!(
        (last.state, last.subscribers, last.connections),
        (State::Stopped, 0, 0)
    );
    assert_eq!(last.disconnects(DisconnectReason::Shutdown), 1);
    assert_eq!(handle.local_addr(), Some(address));
    assert_eq!(handle.disconnect(1), 0);
    let closed = handle.subscribe(&[Namespace::root()]);
    assert_eq!(closed.err(), Some(SubscribeError::Closed));
    handle.shutdown(Duration::ZERO);
}

#[test]
fn a_shutdown_before_the_run_ends_it_at_once() {
    let mut server = builder().build().unwrap();
    server.bind("127.0.0.1:0").unwrap();
    server.handle().shutdown(TIMEOUT);
    server.run().unwrap();
}

#[test]
fn connections_are_ended_by_id_and_by_namespace() {
    let server = start(builder());
    let mut root = server.subscribe("/subscribe");
    let mut kicked: Vec<Client> = ["/subscribe/a", "/subscribe/a/b", "/subscribe?ns=/x&ns=/a/c"]
        .map(|target| server.subscribe(target))
        .into();
    let mut spared = server.subscribe("/subscribe/ab");
    let below_a = Disconnect::Namespace(namespace("/a"));
    assert_eq!(server.handle.disconnect(below_a.clone()), 3);
    for client in &mut kicked {
        client.expect_end();
        assert_eq!(server.next_end().1, DisconnectReason::Kicked);
    }
    assert_eq!(server.handle.disconnect(below_a), 0);
    let subscription = server.handle.subscribe(&[namespace("/s")]).unwrap();
    let id = subscription.id();
    assert_eq!(server.handle.disconnect(id), 1);
    assert_eq!(server.handle.disconnect(id), 0);
    assert_eq!(subscription.reason(), Some(DisconnectReason::Kicked));
    assert_eq!(server.next_end().0.id, id);
    server.publish_last();
    root.expect(LAST);
    spared.expect(LAST);
    assert_eq!(server.handle.disconnect(Namespace::root()), 2);
    root.expect_end();
    spared.expect_end();
}

#[test]
fn a_status_counts_current_and_past_connections_and_events() {
    let server = start(builder());
    let mut clients: Vec<Client> = ["/subscribe/a", "/subscribe/a/b", "/subscribe?ns=/a/b&ns=/c"]
        .map(|target| server.subscribe(target))
        .into();
    let subscription = server.handle.subscribe(&[namespace("/d")]).unwrap();
    for _ in 0..10 {
        server.publish("/a/b", "x");
    }
    for client in &mut clients {
        client.expect(&"data:x\n\n".repeat(10));
    }
    let bytes: u64 = clients.iter().map(|client| client.received).sum();
    let status = server.handle.status();
    assert_eq!(status.connections, 4);
    assert_eq!(status.connections_peak, 4);
    assert_eq!(status.connections_total, 4);
    assert_eq!(status.subscribers, 4);
    assert_eq!(status.namespaces, 4);
    assert_eq!((status.events, status.deliveries), (10, 30));
    assert_eq!(status.bytes, bytes);
    let disconnects = DisconnectReason::ALL
        .iter()
        .map(|&reason| status.disconnects(reason));
    assert_eq!((status.queued, disconnects.sum()), (0, 0_u64));
    drop((clients, subscription));
    for _ in 0..4 {
        assert_eq!(server.next_end().1, DisconnectReason::Client);
    }
    let status = server.handle.status();
    assert_eq!(
        (status.connections, status.subscribers, status.namespaces),
        (0, 0, 0)
    );
    assert_eq!((status.connections_peak, status.connections_total), (4, 4));
    assert_eq!((status.deliveries, status.retained_bytes), (30, 0));
    assert_eq!(status.disconnects(DisconnectReason::Client), 4);
}

// Subscriptions

#[test]
fn a_subscription_gets_the_same_events_as_a_stream() {
    let server = start(builder());
    let root = [Namespace::root()];
    let mut subscription = server.handle.subscribe(&root).unwrap();
    let several = [namespace("/a"), namespace("/a/x"), namespace("/c")];
    let mut of_several = server.handle.subscribe(&several).unwrap();
    let send = |event| server.publisher.send(event).unwrap();
    send(Event::new("/a", "1").event("e").id("i"));
    send(Event::comment("/a", "unseen"));
    send(Event::new("/b", "a\r\nb").also("/c"));
    send(Event::new("/b", "only for the root"));
    send(Event::encoded("/c", "data: x\n\ndata\n\n"));
    let event = |event_type: &str, data: &str| StreamEvent {
        event_type: event_type.into(),
        data: data.into(),
        last_event_id: "i".into(),
    };
    let expected = [event("e", "1"), event("message", "a\nb")];
    for expected in &expected {
        assert_eq!(of_several.next().as_ref(), Some(expected));
        assert_eq!(subscription.next().as_ref(), Some(expected));
    }
    assert_eq!(next_data(&mut subscription), "only for the root");
    for subscription in [&mut subscription, &mut of_several] {
        assert_eq!(next_data(subscription), "x");
        assert_eq!(next_data(subscription), "");
        let nothing = subscription.recv_timeout(Duration::from_millis(1));
        assert_eq!(nothing, Err(RecvTimeoutError::Timeout));
        assert_eq!(subscription.reason(), None);
    }
    let none = server.handle.subscribe(&[]);
    assert_eq!(none.err(), Some(SubscribeError::NoNamespace));
}

#[test]
fn a_subscription_that_reads_gets_every_event() {
    const EVENTS: usize = 20_000;
    let server = start(builder().send_buffer(1000));
    let mut subscription = server.handle.subscribe(&[namespace("/a")]).unwrap();
    let publisher = server.publisher.clone();
    let thread = std::thread::spawn(move || {
        for number in 0..EVENTS {
            let data = format!("{number} {}", "x".repeat(number % 500));
            publisher.send(Event::new("/a/b", data)).unwrap();
        }
    });
    for number in 0..EVENTS {
        let data = next_data(&mut subscription);
        assert_eq!(data.split_once(' ').unwrap().0, number.to_string());
    }
    join_within(TIMEOUT, thread);
}

#[test]
fn a_subscription_that_does_not_read_lags() {
    let server = start(builder().max_event(1000).max_lag(20_000).send_buffer(1000));
    let mut lags = server.handle.subscribe(&[Namespace::root()]).unwrap();
    let mut reads = server.handle.subscribe(&[Namespace::root()]).unwrap();
    let data = "x".repeat(900);
    for _ in 0..100 {
        server.publish("/", &data);
        assert_eq!(next_data(&mut reads), data);
    }
    assert_eq!(server.next_end().1, DisconnectReason::Lagged);
    assert_eq!(lags.reason(), Some(DisconnectReason::Lagged));
    // It still gets the events from before the gap, and none after it.
    let ended = loop {
        match lags.recv_timeout(TIMEOUT) {
            Ok(event) => assert_eq!(event.data, data),
            Err(ended) => break ended,
        }
    };
    assert_eq!(ended, RecvTimeoutError::Ended(DisconnectReason::Lagged));
    drop(expect_no_event(lags));
    assert_eq!(reads.reason(), None);
}

#[test]
fn dropping_a_subscription_unsubscribes() {
    let server = start(builder());
    let subscription = server.handle.subscribe(&[namespace("/a")]).unwrap();
    let id = subscription.id();
    drop(subscription);
    let (info, reason) = server.next_end();
    assert_eq!(
        (info.id, info.peer, reason),
        (id, None, DisconnectReason::Client)
    );
    assert_eq!(server.handle.status().namespaces, 0);
}

#[test]
fn a_subscription_counts_against_max_namespaces() {
    let server = start(builder().max_namespaces(1));
    let first = server.handle.subscribe(&[namespace("/a")]).unwrap();
    let second = server.handle.subscribe(&[namespace("/b")]);
    assert_eq!(second.err(), Some(SubscribeError::TooManyNamespaces));
    let third = server.handle.subscribe(&[namespace("/a")]).unwrap();
    assert_ne!(first.id(), third.id());
}

// Hooks

enum Report {
    Connected(ConnectionInfo),
    Disconnected(ConnectionInfo, DisconnectReason),
}

/// A builder whose hooks report to the channel.
fn reporting(sender: &Sender<Report>) -> fanfare::Builder {
    let (connects, disconnects) = (sender.clone(), sender.clone());
    builder()
        .on_connect(move |info| {
            connects
                .send(Report::Connected(info.clone()))
                .expect("a test that listens")
        })
        .on_disconnect(move |info, reason| {
            // The test may have dropped the receiver.
            let _ = disconnects.send(Report::Disconnected(info.clone(), reason));
        })
}

#[test]
fn hooks_get_each_connection_and_the_reason_of_its_end() {
    let (sender, reports) = channel();
    let server = reporting(&sender).build().unwrap();
    let publisher = server.publisher();
    let thread = server.spawn("127.0.0.1:0").unwrap();
    let address = thread.handle().local_addr().unwrap();
    let mut ids = Vec::new();
    for (target, expected) in [
        ("/subscribe/b", &["/b"][..]),
        ("/subscribe?ns=/b/c&ns=/a&ns=/a/x", &["/a", "/b/c"]),
    ] {
        let mut client = Client::connect(address);
        client.send(request(&format!("GET {target}"), ""));
        client.read_stream_start();
        let Ok(Report::Connected(info)) = reports.recv_timeout(TIMEOUT) else {
            panic!("a connect");
        };
        let names: Vec<_> = info.namespaces.iter().map(Namespace::as_str).collect();
        assert_eq!(names, expected);
        assert_eq!(info.peer, Some(client.stream.local_addr().unwrap()));
        assert_eq!(info.events, 0);
        assert!(info.is_stream());
        for number in 0..3 {
            publisher
                .send(Event::new("/b/c", number.to_string()))
                .unwrap();
            client.expect(&format!("data:{number}\n\n"));
        }
        let (peer, received) = (client.stream.local_addr().unwrap(), client.received);
        drop(client);
        let Ok(Report::Disconnected(ended, reason)) = reports.recv_timeout(TIMEOUT) else {
            panic!("a disconnect");
        };
        assert_eq!(reason, DisconnectReason::Client);
        assert_eq!(
            (ended.id, ended.peer, &ended.namespaces),
            (info.id, Some(peer), &info.namespaces)
        );
        assert_eq!((ended.events, ended.bytes), (3, received), "{target}");
        ids.push(info.id);
    }
    assert_ne!(ids[0], ids[1]);
    // A connection that is not a stream only ends.
    let mut client = Client::connect(address);
    client.send(request("GET /healthz", "Connection: close\r\n"));
    client.response();
    let received = client.received;
    drop(client);
    let Ok(Report::Disconnected(ended, reason)) = reports.recv_timeout(TIMEOUT) else {
        panic!("a disconnect");
    };
    assert_eq!((reason, ended.bytes), (DisconnectReason::Client, received));
    assert!(!ended.is_stream());
    // A subscription in this process is a stream without an address.
    let subscription = thread.handle().subscribe(&[namespace("/s")]).unwrap();
    let Ok(Report::Connected(info)) = reports.recv_timeout(TIMEOUT) else {
        panic!("a connect");
    };
    assert_eq!((info.id, info.peer), (subscription.id(), None));
    drop(subscription);
    thread.handle().shutdown(Duration::ZERO);
    within(TIMEOUT, || thread.join()).unwrap();
}

#[test]
fn a_route_hook_decides_before_the_servers_own_routes() {
    let (sender, heads) = channel();
    let server = start(builder().route(move |head| {
        let token = head.header("x-token").unwrap_or_default().to_owned();
        let line = format!("{} {} {} {token}", head.method(), head.path(), head.query());
        sender.send(line).unwrap();
        match head.path() {
            "/time" => Routing::Subscribe(vec![namespace("/clock"), namespace("/clock/x")]),
            "/teapot" => Routing::Refuse(418, "a \"teapot\"".into()),
            "/nonsense" => Routing::Refuse(200, "no error".into()),
            "/nothing" => Routing::Subscribe(Vec::new()),
            "/subscribe/private" if token != "t" => Routing::Refuse(401, "not for you".into()),
            _ => Routing::Default,
        }
    }));
    let mut time = server.subscribe("/time?zone=utc");
    assert_eq!(heads.recv_timeout(TIMEOUT).unwrap(), "GET /time zone=utc ");
    let mut client = server.connect();
    for (target, expected, text) in [
        ("/teapot", 418, "{\"error\":\"a \\\"teapot\\\"\"}"),
        ("/nonsense", 400, "{\"error\":\"no error\"}"),
        ("/subscribe/private", 401, "{\"error\":\"not for you\"}"),
        ("/healthz", 200, "ok"),
    ] {
        client.send(request(&format!("GET {target}"), ""));
        let response = client.response();
        assert_eq!(
            (status(&response), body(&response)),
            (expected, text),
            "{target}"
        );
        assert_eq!(
            heads.recv_timeout(TIMEOUT).unwrap(),
            format!("GET {target}  ")
        );
    }
    client.send(request("GET /nothing", ""));
    let response = client.response();
    assert_eq!(
        (status(&response), body(&response)),
        (500, "{\"error\":\"the route hook returned no namespaces\"}")
    );
    let mut client = server.ask("HEAD /time", "");
    let head = client.read_to_end();
    assert_eq!(
        header(&head, "Content-Type"),
        Some("text/event-stream; charset=utf-8")
    );
    let mut private = server.ask("GET /subscribe/private", "X-Token: t\r\n");
    private.read_stream_start();
    server.publish("/clock/x", "12:00");
    time.expect("data:12:00\n\n");
}

// Servers

#[test]
fn several_servers_in_one_process_are_independent() {
    let servers: Vec<_> = (0..5).map(|_| start(builder())).collect();
    let mut clients: Vec<Client> = servers
        .iter()
        .map(|server| server.subscribe("/subscribe"))
        .collect();
    for (number, server) in servers.iter().enumerate() {
        server.publish("/", &number.to_string());
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.expect(&format!("data:{number}\n\n"));
    }
    servers[0].handle.shutdown(Duration::ZERO);
    clients[0].expect_end();
    for (server, client) in servers.iter().zip(&mut clients).skip(1) {
        server.publish_last();
        client.expect(LAST);
        assert_eq!(server.handle.status().events, 2);
    }
}

#[test]
fn a_server_listens_on_ipv6_and_on_several_addresses() {
    let mut server = builder().build().unwrap();
    let first = server.bind("127.0.0.1:0").unwrap();
    // On a machine without IPv6, both addresses are IPv4.
    let second = server
        .bind("[::1]:0")
        .or_else(|_| server.bind("127.0.0.1:0"))
        .unwrap();
    assert_eq!(server.handle().local_addr(), Some(first));
    let (handle, publisher) = (server.handle(), server.publisher());
    let thread = std::thread::spawn(move || server.run());
    let mut clients = [first, second].map(|address| {
        let mut client = Client::connect(address);
        client.send(request("GET /subscribe", ""));
        client.read_stream_start();
        client
    });
    publisher.send(Event::new("/", "last")).unwrap();
    clients.iter_mut().for_each(|client| client.expect(LAST));
    handle.shutdown(Duration::ZERO);
    join_within(TIMEOUT, thread).unwrap();
}

#[test]
fn host_names_are_resolved_and_a_failed_bind_is_an_error() {
    let server = start_at(builder(), "localhost:0");
    let taken = builder().build().unwrap().serve(server.address);
    assert_eq!(taken.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let foreign = builder().build().unwrap().bind("192.0.2.1:0");
    assert_eq!(
        foreign.unwrap_err().kind(),
        std::io::ErrorKind::AddrNotAvailable
    );
    assert!(builder().build().unwrap().spawn("no port").is_err());
}

#[test]
fn a_port_is_free_again_once_its_server_has_ended() {
    let server = start(builder());
    let address = server.address;
    let mut client = server.subscribe("/subscribe");
    server.handle.shutdown(Duration::ZERO);
    client.expect_end();
    server.join();
    let server = start_at(builder(), &address.to_string());
    server.subscribe("/subscribe");
}

#[test]
fn a_server_without_a_port_serves_this_process() {
    let server = builder().build().unwrap();
    let (handle, publisher) = (server.handle(), server.publisher());
    let thread = std::thread::spawn(move || server.run());
    let mut subscription = handle.subscribe(&[namespace("/a")]).unwrap();
    publisher.send(Event::new("/a", "x")).unwrap();
    assert_eq!(next_data(&mut subscription), "x");
    handle.shutdown(TIMEOUT);
    drop(expect_no_event(subscription));
    join_within(TIMEOUT, thread).unwrap();
}

#[test]
fn a_hook_that_sends_to_a_full_queue_gets_the_event_back() {
    let publisher = Arc::new(OnceLock::<Publisher>::new());
    let (sender, results) = channel();
    let in_hook = Arc::clone(&publisher);
    // A server that hangs must not keep the test from failing.
    let server = ManuallyDrop::new(start(builder().queue(2).on_connect(move |_| {
        let publisher = in_hook.get().unwrap();
        for send in [Publisher::send, Publisher::broadcast, Publisher::send] {
            sender.send(send(publisher, Event::new("/", "x"))).unwrap();
        }
        let late = publisher.send_timeout(Event::new("/", "x"), TIMEOUT);
        sender.send(late).unwrap();
    })));
    publisher.set(server.publisher.clone()).unwrap();
    let mut client = server.subscribe("/subscribe");
    client.expect("data:x\n\ndata:x\n\n");
    let full = || Err(SendError::Full(Box::new(Event::new("/", "x"))));
    let results: Vec<_> = (0..4)
        .map(|_| results.recv_timeout(TIMEOUT).unwrap())
        .collect();
    assert_eq!(results, [Ok(()), Ok(()), full(), full()]);
    drop(ManuallyDrop::into_inner(server));
}
