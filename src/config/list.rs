//! The list of all options of a server. All else about an option comes from here: the field of
//! `Config`, its default and its check, the setter of `Builder`, the flag, the environment variable
//! and the key of a file, the help text, and the table of `docs/options.md`.

/// Calls a macro with the list of options. An entry is
///
/// ```text
/// /// Help, one paragraph. Further paragraphs are only in the documentation of the field.
/// name: Type of the field as Kind = "default", "minimum" to "maximum" or "0";
/// ```
///
/// The kind (`config/kind.rs`) says how the value is parsed, written and checked. `none` as the
/// default is an empty value, and may be followed by a text that describes it. Only numbers have
/// bounds.
macro_rules! with_options {
    ($callback:ident) => {
        $callback! {
            /// How long a stream may be silent before a comment is sent on it; 0 turns comments
            /// off.
            keepalive: Duration as Time = "15s", "1ms" to "24h" or "0";

            /// Text of the comment that `keepalive` sends.
            keepalive_text: String as Line = none;

            /// Reconnection time at the start of each stream, varied at random by ±50 %; 0 leaves
            /// it out.
            retry: Duration as Time = "3s", "1ms" to "24h" or "0";

            /// Bytes of events that may be pending for a subscriber before it is disconnected; the
            /// largest event always fits.
            max_lag: usize as Size = "1MiB", "1B" to "1024GiB";

            /// How long a socket may accept nothing while there is something to write before it is
            /// closed.
            write_timeout: Duration as Time = "30s", "1ms" to "24h";

            /// How long a request's head may take to arrive.
            head_timeout: Duration as Time = "10s", "1ms" to "24h";

            /// Connections at the same time.
            max_connections: Option<usize> as OptionalCount
                = none "the descriptor limit less 256", "1" to "268435456";

            /// Namespaces in use at the same time, including their ancestors.
            max_namespaces: usize as Count = "1000000", "1" to "1073741824";

            /// Segments that a namespace may have.
            namespace_segments: usize as Count = "16", "1" to "256";

            /// Size that a segment of a namespace may have.
            namespace_segment_bytes: usize as Size = "128B", "1B" to "4KiB";

            /// Size that a namespace may have.
            namespace_bytes: usize as Size = "1KiB", "1B" to "4KiB";

            /// Size that the data of an event may have.
            max_event: usize as Size = "1MiB", "1B" to "1GiB";

            /// Events that may wait between publishers and the event loop.
            queue: usize as Count = "16384", "1" to "16777216";

            /// Size of the events that may wait between publishers and the event loop; one event
            /// always fits.
            ///
            /// Under load, publishers that can wait use less of it, see
            /// [`Publisher`](crate::Publisher).
            queue_bytes: usize as Size = "1MiB", "1B" to "1024GiB";

            /// Size of the kernel's send buffer of a connection; 0 leaves it to the kernel.
            send_buffer: usize as Size = "64KiB", "0" to "1GiB";

            /// Bytes of events that are collected for a namespace before they are written, while
            /// publishers continue; more is faster, and later.
            write_budget: usize as Size = "16KiB", "1B" to "1GiB";

            /// Minimum time between two writes to the subscribers of a namespace: fewer, larger
            /// writes.
            coalesce: Duration as Time = "0", "1ms" to "1m" or "0";

            /// Events that each namespace retains for replay; 0 turns history off.
            history_events: usize as Count = "1000", "0" to "4294967296";

            /// How long events are retained; 0 turns history off.
            ///
            /// An event may be retained for up to a sixty-fourth of this time longer.
            history_age: Duration as Time = "5m", "1ms" to "87600h" or "0";

            /// Size of the events that each namespace retains; 0 turns history off.
            history_bytes: usize as Size = "4MiB", "0" to "16384GiB";

            /// Memory of all retained events together; the largest log is evicted first, 0 turns
            /// history off.
            ///
            /// It includes events that are kept only because slow subscribers still need them. With
            /// 0, those may use as much as by default.
            history_total: usize as Size = "256MiB", "0" to "16384GiB";

            /// Type of the event that reports events missing from a stream; an empty type turns
            /// these reports off.
            gap_event: String as EventType = "gap";

            /// Directory that keeps events across restarts; created if it does not exist.
            #[cfg(feature = "disk")]
            data_dir: Option<PathBuf> as Directory = none;

            /// When events in the data directory are synced to disk: before they are delivered,
            /// about 100 ms after they were appended, or when the operating system decides.
            #[cfg(feature = "disk")]
            fsync: Fsync as Fsync = "interval";

            /// Origins whose pages may read streams; `*` is any.
            cors_origins: Vec<String> as Origins = "*";

            /// Headers that are added to the head of a stream, or replace headers in it.
            headers: Vec<(String, String)> as Headers = none;

            /// How long a drain may take.
            drain: Duration as Time = "10s", "0" to "24h";

            /// Token that publishers must send as `Authorization: Bearer TOKEN`; without one,
            /// publishing over HTTP is open on a loopback address and closed on any other.
            publish_token: Option<String> as Token = none;

            /// Networks of the proxies whose `Forwarded`, `X-Forwarded-For` and `X-Real-IP` headers
            /// are trusted.
            trusted_proxies: Vec<Cidr> as Networks = none;

            /// Remove the last part of client addresses from the status, from logs and in hooks.
            mask_addresses: bool as Switch = "false";

            /// Where the status page and the metrics are served: with everything else, nowhere, or
            /// on an address of their own.
            #[cfg(feature = "admin")]
            admin: Admin as Admin = "on";

            /// Token that the status page and the metrics ask for; without one, they are open on a
            /// loopback address and closed on any other.
            #[cfg(feature = "admin")]
            admin_token: Option<String> as Token = none;
        }
    };
}

pub(crate) use with_options;
