//! What is set before a server runs: its options and its hooks.

use std::fmt;
#[cfg(feature = "disk")]
use std::path::PathBuf;
use std::time::Duration;

use crate::cidr::Cidr;
#[cfg(feature = "admin")]
use crate::config::Admin;
use crate::config::{Config, ConfigError, with_options};
use crate::engine::Routing;
use crate::http::request::RequestHead;
use crate::namespace::NamespaceLimits;
use crate::status::{ConnectionInfo, DisconnectReason};
use crate::store::EventStore;
#[cfg(feature = "disk")]
use crate::store::Fsync;

use super::Server;
use super::hooks::Hooks;

/// Sets a server's options and hooks.
///
/// ```
/// use std::time::Duration;
/// use fanfare::Server;
///
/// let server = Server::builder().keepalive(Duration::from_secs(30)).max_lag(4 << 20).build()?;
/// # Ok::<(), fanfare::ConfigError>(())
/// ```
#[derive(Default)]
pub struct Builder {
    config: Config,
    hooks: Hooks,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server to be configured first.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// The setter of one option. What it takes depends on the kind of the option.
macro_rules! setter {
    (OptionalCount $option:ident $_:ty) => {
        setter! { $option(value: usize) Some(value) }
    };
    (Line $option:ident $_:ty) => {
        setter! { $option(value: impl Into<String>) value.into() }
    };
    (EventType $option:ident $_:ty) => {
        setter! { $option(value: impl Into<String>) value.into() }
    };
    (Token $option:ident $_:ty) => {
        setter! { $option(value: impl Into<String>) Some(value.into()) }
    };
    (Directory $option:ident $_:ty) => {
        setter! { $option(value: impl Into<PathBuf>) Some(value.into()) }
    };
    (Origins $option:ident $_:ty) => {
        setter! {
            $option(values: impl IntoIterator<Item = impl Into<String>>)
            values.into_iter().map(Into::into).collect()
        }
    };
    (Networks $option:ident $_:ty) => {
        setter! { $option(values: impl IntoIterator<Item = Cidr>) values.into_iter().collect() }
    };
    (Headers $option:ident $_:ty) => {
        setter! {
            $option(values: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>)
            values.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
        }
    };
    ($kind:ident $option:ident $type:ty) => {
        setter! { $option(value: $type) value }
    };
    ($option:ident($argument:ident: $type:ty) $value:expr) => {
        #[doc = concat!("Sets [`Config::", stringify!($option), "`].")]
        pub fn $option(mut self, $argument: $type) -> Self {
            self.config.$option = $value;
            self
        }
    };
}

macro_rules! declare_setters {
    ($(
        $(#[doc = $doc:literal])*
        $(#[cfg($cfg:meta)])?
        $name:ident: $type:ty as $kind:ident = $default:tt $($description:literal)?
            $(, $min:literal to $max:literal $(or $zero:literal)?)?;
    )*) => {
        impl Builder {$(
            $(#[cfg($cfg)])?
            setter! { $kind $name $type }
        )*}
    };
}

with_options!(declare_setters);

impl Builder {
    /// Sets every option at once.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    /// Sets the three limits of a namespace at once.
    pub fn namespace_limits(mut self, limits: NamespaceLimits) -> Self {
        self.config.namespace_segments = limits.segments;
        self.config.namespace_segment_bytes = limits.segment_bytes;
        self.config.namespace_bytes = limits.path_bytes;
        self
    }

    /// Is asked what each request is for, before the server's own routes and whatever the method, `OPTIONS` aside. It runs on the event
    /// loop's thread, so it must not wait: a response is one that is there already, or made in microseconds.
    ///
    /// ```
    /// use fanfare::{Namespace, Routing, Server};
    ///
    /// let server = Server::builder()
    ///     .route(|head| match head.path() {
    ///         "/time" => Routing::Subscribe(vec![Namespace::parse("/clock").expect("a namespace")]),
    ///         path if path.starts_with("/subscribe/private") => Routing::Refuse(403, "not for you".into()),
    ///         _ => Routing::Default,
    ///     })
    ///     .build()?;
    /// # Ok::<(), fanfare::ConfigError>(())
    /// ```
    pub fn route(mut self, hook: impl FnMut(&RequestHead) -> Routing + Send + 'static) -> Self {
        self.hooks.route = Some(Box::new(hook));
        self
    }

    /// Is told of each event stream that begins. It runs on the event loop's thread, so it must not wait.
    pub fn on_connect(mut self, hook: impl FnMut(&ConnectionInfo) + Send + 'static) -> Self {
        self.hooks.on_connect = Some(Box::new(hook));
        self
    }

    /// Is told of each connection that ended, event stream or not, and why. It runs on the event loop's thread, so it must not wait.
    pub fn on_disconnect(
        mut self,
        hook: impl FnMut(&ConnectionInfo, DisconnectReason) + Send + 'static,
    ) -> Self {
        self.hooks.on_disconnect = Some(Box::new(hook));
        self
    }

    /// Keeps events in a store of the application's own, beyond the end of the process; see [`EventStore`]. `data_dir` is for the server's own.
    pub fn event_store(mut self, event_store: impl EventStore + 'static) -> Self {
        self.hooks.event_store = Some(Box::new(event_store));
        self
    }

    /// Is told what an operator should know, such as that descriptors have run out. It runs on the event loop's thread.
    pub fn on_warning(mut self, hook: impl FnMut(&str) + Send + 'static) -> Self {
        self.hooks.on_warning = Some(Box::new(hook));
        self
    }

    /// Makes the server.
    ///
    /// # Errors
    /// The first option that may not be as it is, by name.
    pub fn build(self) -> Result<Server, ConfigError> {
        self.config.check()?;
        Ok(Server::with(self.config, self.hooks))
    }
}
