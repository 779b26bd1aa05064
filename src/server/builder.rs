//! The builder of a server: its options, its hooks and its store.

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

/// Builds a [`Server`] with options and hooks.
///
/// Each option of [`Config`] has a setter of the same name. Options are checked by
/// [`Builder::build`].
///
/// ```
/// use std::time::Duration;
/// use fanfare::Server;
///
/// let server = Server::builder().keepalive(Duration::from_secs(30)).max_lag(4 << 20).build()?;
/// # Ok::<(), fanfare::ConfigError>(())
/// ```
///
/// # Hooks
/// Hooks run on the thread of the event loop, so every connection waits while one runs: a hook must
/// not block. In a hook, [`Publisher::send`](crate::Publisher::send) does not block either: if the
/// queue is full, it returns [`SendError::Full`](crate::SendError::Full). A
/// [hook that panics](Server#panics-in-hooks) ends the server.
#[derive(Default)]
#[must_use = "a builder does nothing until `build`"]
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
    /// Creates a builder, which sets options and hooks.
    pub fn builder() -> Builder {
        Builder::default()
    }
}

/// Declares the setter of an option. Its argument depends on the kind of the option.
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

/// Declares the setters of all options.
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
    /// Replaces all options, also those that were set before.
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

    /// Sets the hook that decides about requests, before the server's own routes. It is called for
    /// every request except `OPTIONS`, and except those beyond
    /// [`max_connections`](Config::max_connections).
    ///
    /// ```
    /// use fanfare::{Namespace, Routing, Server};
    ///
    /// let server = Server::builder()
    ///     .route(|head| match head.path() {
    ///         "/time" => {
    ///             Routing::Subscribe(vec![Namespace::parse("/clock").expect("a valid path")])
    ///         }
    ///         path if path.starts_with("/subscribe/private") => {
    ///             Routing::Refuse(403, "sign in first".into())
    ///         }
    ///         _ => Routing::Default,
    ///     })
    ///     .build()?;
    /// # Ok::<(), fanfare::ConfigError>(())
    /// ```
    pub fn route(mut self, hook: impl FnMut(&RequestHead) -> Routing + Send + 'static) -> Self {
        self.hooks.route = Some(Box::new(hook));
        self
    }

    /// Sets the hook that is called at the start of each event stream.
    pub fn on_connect(mut self, hook: impl FnMut(&ConnectionInfo) + Send + 'static) -> Self {
        self.hooks.on_connect = Some(Box::new(hook));
        self
    }

    /// Sets the hook that is called at the end of each connection, with the reason. The connection
    /// need not have been an event stream; see [`ConnectionInfo::is_stream`].
    pub fn on_disconnect(
        mut self,
        hook: impl FnMut(&ConnectionInfo, DisconnectReason) + Send + 'static,
    ) -> Self {
        self.hooks.on_disconnect = Some(Box::new(hook));
        self
    }

    /// Sets the store that keeps events across restarts. It replaces the server's own store, which
    /// is in the directory `data_dir`.
    pub fn event_store(mut self, event_store: impl EventStore + 'static) -> Self {
        self.hooks.event_store = Some(Box::new(event_store));
        self
    }

    /// Sets the hook that is called with messages for the operator, for example when no descriptors
    /// are left.
    pub fn on_warning(mut self, hook: impl FnMut(&str) + Send + 'static) -> Self {
        self.hooks.on_warning = Some(Box::new(hook));
        self
    }

    /// Checks the options and makes the server.
    ///
    /// # Errors
    /// The first invalid option; see [`Config::check`].
    pub fn build(self) -> Result<Server, ConfigError> {
        self.config.check()?;
        Ok(Server::with(self.config, self.hooks))
    }
}
