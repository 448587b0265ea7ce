use super::*;

fn hosts(allowed: &[&str], addresses: &[&str]) -> Result<Hosts> {
    let allowed: Vec<String> = allowed.iter().map(|&host| host.to_owned()).collect();
    Hosts::new(&allowed, addresses.iter().map(|address| address.parse().unwrap()))
}

/// Asks with this `Host`, over HTTP/1.
#[track_caller]
fn check(hosts: &Hosts, host: &str, expected: bool) {
    let request = Request::builder().header(HOST, host).body(()).unwrap();
    assert_eq!(hosts.allow(&request), expected, "{host}");
}

#[test]
fn on_loopback_only_this_machine_is_named() {
    let hosts = hosts(&[], &["127.0.0.1", "::1"]).unwrap();
    for good in ["localhost", "LocalHost:8080", "127.0.0.1", "127.0.0.1:1", "127.9.9.9:80", "[::1]", "[::1]:8080"] {
        check(&hosts, good, true);
    }
    check(&hosts, "[::ffff:127.0.0.1]:8080", true);
    for bad in [
        "evil.example",
        "evil.example:8080",
        "localhost.evil.example",
        "evil-localhost",
        "127.0.0.1.evil.example:8080",
        "10.0.0.1:8080",
        "0.0.0.0:8080",
        "[fe80::1]:8080",
        "localhost:80@evil.example",
        "evil.example:80:localhost",
        "localhost:x",
        "[::1",
        "::1",
        "",
        ":8080",
    ] {
        check(&hosts, bad, false);
    }
}

#[test]
fn names_that_are_allowed_are_names_of_the_server() {
    let local = hosts(&["models.example.org", "10.1.2.3"], &["127.0.0.1"]).unwrap();
    for (host, expected) in [
        ("Models.Example.org:9000", true),
        ("10.1.2.3", true),
        ("localhost", true),
        ("10.1.2.4", false),
        ("x.models.example.org", false),
    ] {
        check(&local, host, expected);
    }
    // Others reach it by its addresses.
    let named = hosts(&["models.example.org"], &["127.0.0.1", "0.0.0.0"]).unwrap();
    for (host, expected) in [
        ("models.example.org", true),
        ("10.1.2.4:8080", true),
        ("[fd00::1]", true),
        ("localhost", true),
        ("evil.example", false),
    ] {
        check(&named, host, expected);
    }
    assert_eq!(hosts(&[], &["127.0.0.1", "0.0.0.0"]).unwrap(), Hosts::Any);
    assert_eq!(hosts(&["a", "*"], &["127.0.0.1"]).unwrap(), Hosts::Any);
    for bad in ["", "http://a.example", "a.example:80", "a.example/", "a b", "*.example"] {
        assert!(hosts(&[bad], &["127.0.0.1"]).is_err(), "{bad}");
    }
}

#[test]
fn every_name_in_a_request_counts() {
    let hosts = hosts(&[], &["127.0.0.1"]).unwrap();
    let request = |uri: &str, names: &[&str]| {
        let request = names.iter().fold(Request::builder().uri(uri), |request, host| request.header(HOST, *host));
        request.body(()).unwrap()
    };
    assert!(hosts.allow(&request("/", &[])));
    assert!(hosts.allow(&request("http://localhost:1/", &[])));
    assert!(hosts.allow(&request("http://localhost/", &["127.0.0.1"])));
    assert!(!hosts.allow(&request("http://evil.example/", &["localhost"])));
    assert!(!hosts.allow(&request("http://localhost/", &["evil.example"])));
    assert!(!hosts.allow(&request("/", &["localhost", "evil.example"])));
}

#[test]
fn only_pages_of_this_origin_change_something() {
    #[track_caller]
    fn check(method: &str, origin: &str, host: &str, cors: &[&str], expected: bool) {
        let cors = Cors::new(&cors.iter().map(|&origin| origin.to_owned()).collect::<Vec<_>>()).unwrap();
        let request = Request::builder().method(method).header(ORIGIN, origin).header(HOST, host).body(()).unwrap();
        assert_eq!(is_foreign(&request, &cors), !expected, "{method} {origin} {host}");
    }
    check("POST", "http://localhost:8080", "localhost:8080", &[], true);
    check("POST", "http://LOCALHOST", "localhost:80", &[], true);
    check("POST", "https://models.example.org", "models.example.org:443", &[], true);
    check("POST", "http://[::1]:8080", "[::1]:8080", &[], true);
    check("POST", "https://a.example", "localhost:8080", &["https://a.example"], true);
    check("POST", "https://a.example", "localhost:8080", &["*"], true);
    for method in ["POST", "PUT", "PATCH", "DELETE", "FROB"] {
        check(method, "https://evil.example", "localhost:8080", &[], false);
    }
    for method in ["GET", "HEAD", "OPTIONS"] {
        check(method, "https://evil.example", "localhost:8080", &[], true);
    }
    for origin in
        ["null", "", "http://localhost:3000", "http://localhost", "localhost:8080", "file://", "http://evil.example"]
    {
        check("POST", origin, "localhost:8080", &["https://a.example"], false);
    }
}
