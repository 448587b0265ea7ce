//! HTTP to addresses that others name.
//!
//! Whoever lets clients say where the server is to send something lends them its place in the network:
//! behind the firewall, beside the metadata service of the cloud. So an address is checked when it is
//! named ([`Allowed::target`]), and again at each attempt for whatever its name leads to by then
//! ([`Client`]). Redirects are not followed, no proxy is asked, and answers to messages are not read.
//!
//! Servers whose answers are wanted are asked by [`Upstream`], and only where they are [`Listed`].
//! Knows no jobs and no models.

mod address;
mod client;
mod http;
mod listed;
mod resolver;
mod signature;
mod target;
mod upstream;

pub use address::reserved;
pub use client::{Client, ClientOptions, Failure};
pub use listed::{Listed, Place};
pub use resolver::{Lookup, SystemLookup};
pub use signature::Signer;
pub use target::{Allowed, Exception, Target};
pub use upstream::{Ask, Miss, Reply, Unread, Upstream, UpstreamOptions};
