//! Who submits a job: whose unfinished jobs are counted, and whose idempotency keys there are.
//!
//! Nobody proves who they are so far. A caller is the address that a connection comes from, or what a
//! header says that a proxy in front sets. Keys are a caller's own only where the header names them: a
//! client whose address changes must find its job again.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use salver_core::{Error, Result};

/// A longer name is refused.
const LONGEST: usize = 200;

/// See the module's description.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Whose jobs are counted.
    pub(super) name: String,
    /// Whose keys there are.
    pub(super) owner: String,
}

impl Caller {
    /// Reads who it is. `address` is none where there is no connection.
    ///
    /// # Errors
    /// `InvalidInput` for a header that comes twice or is no name.
    pub(super) fn of(headers: &HeaderMap, header: Option<&HeaderName>, address: Option<IpAddr>) -> Result<Self> {
        let Some((header, first)) = header.and_then(|header| Some((header, headers.get(header)?))) else {
            let name = address.map_or_else(String::new, |address| format!("address:{}", network(address)));
            return Ok(Self { name, owner: String::new() });
        };
        let is_alone = headers.get_all(header).iter().nth(1).is_none();
        let name = first.to_str().ok().filter(|name| is_alone && (1..=LONGEST).contains(&name.len()));
        let wrong =
            || Error::invalid_input(format!("header {header}: expected one name of 1 to {LONGEST} ASCII characters"));
        let name = format!("name:{}", name.ok_or_else(wrong)?);
        Ok(Self { owner: name.clone(), name })
    }
}

/// Returns what counts as one place: who has an address of IPv6 has a whole network of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: HeaderName = HeaderName::from_static("x-user");

    fn headers(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(HEADER, value.parse().unwrap());
        }
        headers
    }

    #[track_caller]
    fn check(values: &[&str], is_named: bool, address: &str, name: &str, owner: &str) {
        let caller = Caller::of(&headers(values), is_named.then_some(&HEADER), address.parse().ok()).unwrap();
        assert_eq!((caller.name.as_str(), caller.owner.as_str()), (name, owner));
    }

    #[test]
    fn a_caller_is_an_address_or_what_the_header_says() {
        check(&[], false, "10.0.0.1", "address:10.0.0.1", "");
        check(&["ann"], false, "10.0.0.1", "address:10.0.0.1", "");
        check(&["ann"], true, "10.0.0.1", "name:ann", "name:ann");
        check(&["address:10.0.0.1"], true, "", "name:address:10.0.0.1", "name:address:10.0.0.1");
        check(&[], true, "10.0.0.1", "address:10.0.0.1", "");
        check(&[], true, "::ffff:10.0.0.1", "address:10.0.0.1", "");
        check(&[], false, "2001:db8:1:2:3:4:5:6", "address:2001:db8:1:2::", "");
        check(&[], false, "", "", "");
    }

    #[test]
    fn a_header_that_is_no_name_is_refused() {
        for values in [vec!["a", "b"], vec![""], vec![&*"a".repeat(201)]] {
            let error = Caller::of(&headers(&values), Some(&HEADER), None).unwrap_err();
            assert!(error.message().contains("x-user"), "{error}");
        }
    }
}
