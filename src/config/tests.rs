//! Tests of the options: their defaults, each of their bounds, and the text of each error.

use super::*;

fn option(name: &str) -> &'static ConfigOption {
    let found = Config::OPTIONS.iter().find(|option| option.name() == name);
    found.unwrap_or_else(|| panic!("no option {name}"))
}

/// The error of setting an option to a text.
fn error(name: &str, text: &str) -> String {
    let result = option(name).set(&mut Config::default(), text);
    result.expect_err(text).to_string()
}

/// The error of a configuration with a change.
fn error_of(change: impl FnOnce(&mut Config)) -> String {
    let mut config = Config::default();
    change(&mut config);
    config.check().unwrap_err().to_string()
}

#[test]
fn defaults_are_valid_and_equal_to_those_in_help_texts() {
    let config = Config::default();
    assert_eq!(config.check(), Ok(()));
    assert_eq!(config.namespace_limits(), NamespaceLimits::default());
    let mut same = Config::default();
    for option in Config::OPTIONS {
        match option.default_text() {
            "none" | "the descriptor limit less 256" => {}
            text => option.set(&mut same, text).unwrap(),
        }
    }
    assert_eq!(format!("{same:?}"), format!("{config:?}"));
}

/// For every number: the least and the greatest valid value, and what is just beyond.
#[test]
fn every_number_has_its_bounds() {
    let rows = [
        // Name, below, least, greatest, above.
        ("keepalive", "", "0", "24h", "86400001ms"),
        ("retry", "", "0", "24h", "25h"),
        ("max-lag", "0", "1", "1024GiB", "1025GiB"),
        ("write-timeout", "0", "1ms", "24h", "25h"),
        ("head-timeout", "0", "1ms", "24h", "25h"),
        ("max-connections", "0", "1", "268435456", "268435457"),
        ("max-namespaces", "0", "1", "1073741824", "1073741825"),
        ("namespace-segments", "0", "1", "256", "257"),
        ("namespace-segment-bytes", "0", "1", "4KiB", "4097"),
        ("namespace-bytes", "0", "1", "4KiB", "4097"),
        ("max-event", "0", "1", "1GiB", "1073741825"),
        ("queue", "0", "1", "16777216", "16777217"),
        ("queue-bytes", "0", "1", "1024GiB", "1025GiB"),
        ("send-buffer", "", "0", "1GiB", "1073741825"),
        ("write-budget", "0", "1", "1GiB", "1073741825"),
        ("coalesce", "", "0", "1m", "61s"),
        ("history-events", "", "0", "4294967296", "4294967297"),
        ("history-age", "", "0", "87600h", "87601h"),
        ("history-bytes", "", "0", "16384GiB", "16385GiB"),
        ("history-total", "", "0", "16384GiB", "16385GiB"),
        ("drain", "", "0", "24h", "25h"),
    ];
    let numbers = Config::OPTIONS.iter().filter(|o| o.bounds().is_some());
    let named: Vec<_> = rows.iter().map(|row| row.0).collect();
    assert_eq!(numbers.map(ConfigOption::name).collect::<Vec<_>>(), named);
    for (name, below, least, greatest, above) in rows {
        let option = option(name);
        for text in [least, greatest] {
            let mut config = Config::default();
            assert_eq!(option.set(&mut config, text), Ok(()), "{name}");
            assert_eq!(option.check(&config), Ok(()), "{name}");
        }
        let bounds = option.bounds().unwrap();
        let (min, max) = bounds.split_once(" to ").unwrap();
        let max = max.trim_end_matches(", or 0");
        let exceeds = format!("{name}: {above} exceeds the maximum of {max}");
        assert_eq!(error(name, above), exceeds);
        if !below.is_empty() {
            let is_less = format!("{name}: {below} is less than the minimum of {min}");
            assert_eq!(error(name, below), is_less);
        }
    }
}

#[test]
fn a_duration_of_less_than_a_millisecond_does_not_turn_an_option_off() {
    let brief = Duration::from_micros(3);
    type Change = fn(&mut Config, Duration);
    let rows: [(&str, Change); 4] = [
        ("keepalive", |config, brief| config.keepalive = brief),
        ("retry", |config, brief| config.retry = brief),
        ("coalesce", |config, brief| config.coalesce = brief),
        ("history-age", |config, brief| config.history_age = brief),
    ];
    for (name, change) in rows {
        assert_eq!(
            error_of(|config| change(config, brief)),
            format!("{name}: 3µs is less than the minimum of 1ms, and is not 0")
        );
    }
    assert_eq!(
        error_of(|config| config.head_timeout = brief),
        "head-timeout: 3µs is less than the minimum of 1ms"
    );
    assert_eq!(
        error_of(|config| config.write_timeout = Duration::from_secs(25 * 3600)),
        "write-timeout: 25h exceeds the maximum of 24h"
    );
}

#[test]
fn an_error_contains_the_value_and_what_is_expected() {
    for (name, text, expected) in [
        (
            "retry",
            "3x",
            "invalid value `3x`: unknown time unit `x`: use ms, s, m or h",
        ),
        (
            "retry",
            "5",
            "invalid value `5`: a duration needs a unit: 5ms, 5s, 5m or 5h",
        ),
        (
            "max-lag",
            "1MB",
            "invalid value `1MB`: unknown size unit `MB`: use B, KiB, MiB or GiB",
        ),
        (
            "queue",
            "many",
            "invalid value `many`: expected a whole number",
        ),
        (
            "max-connections",
            "",
            "invalid value ``: expected a whole number",
        ),
        (
            "mask-addresses",
            "yes",
            "invalid value `yes`: expected `true` or `false`",
        ),
        (
            "keepalive-text",
            "a\nb",
            "invalid value `a\\nb`: expected one line",
        ),
        (
            "gap-event",
            "a\rb",
            "invalid value `a\\rb`: expected a text without CR, LF and NUL",
        ),
        (
            "gap-event",
            &"x".repeat(1025),
            "1025 bytes exceed the maximum of 1024 bytes",
        ),
        (
            "cors-origins",
            "https://a,example.org",
            "invalid value `example.org`: expected an origin such as https://example.org",
        ),
        (
            "cors-origins",
            "*,https://a",
            "invalid value `*,https://a`: `*` allows all origins and must be the only one",
        ),
        (
            "trusted-proxies",
            "10.0.0.0/33",
            "invalid value `10.0.0.0/33`: must be an address, or a network such as 10.0.0.0/8 or \
             2001:db8::/32",
        ),
        (
            "trusted-proxies",
            "::1,x",
            "invalid value `::1,x`: `x` must be an address, or a network such as 10.0.0.0/8 or \
             2001:db8::/32",
        ),
        (
            "headers",
            "X-A",
            "invalid value `X-A`: expected a header such as `Name: value`",
        ),
        (
            "publish-token",
            "",
            "must be one or more visible ASCII characters",
        ),
        (
            "publish-token",
            "a b",
            "must be one or more visible ASCII characters",
        ),
    ] {
        assert_eq!(error(name, text), format!("{name}: {expected}"));
    }
    let wrong = [
        ("cors-origins", " https://a/"),
        ("cors-origins", "https://a,,https://b"),
        ("headers", "Content-Length: 3"),
        ("headers", "X A: b"),
        #[cfg(feature = "disk")]
        ("fsync", "sometimes"),
        #[cfg(feature = "admin")]
        ("admin", "maybe"),
    ];
    for (name, text) in wrong {
        assert!(
            error(name, text).starts_with(&format!("{name}: ")),
            "{text}"
        );
    }
}

#[test]
fn values_set_by_a_program_are_checked_like_parsed_ones() {
    type Change = (&'static str, fn(&mut Config));
    let changes: [Change; 7] = [
        ("keepalive-text", |c| c.keepalive_text = "a\nb".into()),
        ("cors-origins", |c| {
            c.cors_origins = vec![" https://a".into()]
        }),
        ("headers", |c| {
            c.headers = vec![("X-A".into(), "a\r\nb".into())]
        }),
        ("publish-token", |c| c.publish_token = Some("a b".into())),
        ("max-connections", |c| c.max_connections = Some(0)),
        ("namespace-segments", |c| c.namespace_segments = 257),
        ("history-total", |c| c.history_total = 1 << 20),
    ];
    for (name, change) in changes {
        let error = error_of(change);
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
    }
}

#[test]
fn options_that_depend_on_each_other_are_checked() {
    let lag = Config::default().lag_limit();
    assert_eq!(
        error_of(|config| config.history_total = 1 << 20),
        format!(
            "history-total: 1MiB is less than the {lag} bytes that max-lag and max-event let one \
             subscriber lag"
        )
    );
    #[cfg(feature = "disk")]
    assert_eq!(
        error_of(|config| {
            config.data_dir = Some("data".into());
            config.history_events = 0;
        }),
        "data-dir: `data` requires history, which is turned off"
    );
}

#[test]
fn a_list_is_split_at_its_separator() {
    let mut config = Config::default();
    let mut set = |name, text| option(name).set(&mut config, text).unwrap();
    set("cors-origins", "https://a, https://b");
    set("trusted-proxies", "10.0.0.0/8,::1");
    set("headers", "X-A: b:c\nX-D:");
    assert_eq!(config.cors_origins, ["https://a", "https://b"]);
    let proxies = config.trusted_proxies.iter().map(ToString::to_string);
    assert_eq!(proxies.collect::<Vec<_>>(), ["10.0.0.0/8", "::1"]);
    let headers = [("X-A".into(), "b:c".into()), ("X-D".into(), String::new())];
    assert_eq!(config.headers, headers);
    for name in ["cors-origins", "trusted-proxies", "headers"] {
        option(name).set(&mut config, "").unwrap();
    }
    assert!(config.cors_origins.is_empty() && config.trusted_proxies.is_empty());
    assert!(config.headers.is_empty());
}

#[test]
fn an_option_is_described_for_help_texts() {
    let queue_bytes = option("queue-bytes");
    assert_eq!(
        queue_bytes.help(),
        "Size of the events that may wait between publishers and the event loop; one event always fits"
    );
    let described = (queue_bytes.value_name(), queue_bytes.default_text());
    assert_eq!(described, ("SIZE", "1MiB"));
    assert_eq!(option("keepalive").bounds().unwrap(), "1ms to 24h, or 0");
    assert!(option("publish-token").is_secret() && !queue_bytes.is_secret());
    assert_eq!(option("headers").form(), Form::List('\n'));
}

#[test]
fn debug_output_has_no_token() {
    let mut config = Config::default();
    assert!(format!("{config:?}").contains("publish_token: None"));
    config.publish_token = Some("hush".into());
    let output = format!("{config:?}");
    assert!(!output.contains("hush"), "{output}");
    assert!(output.contains("publish_token: \"[hidden]\""), "{output}");
}
