//! The demo, as the README's first command runs it.

use crate::support::succeed;

#[test]
fn the_demo_predicts_all_held_out_rows_over_every_protocol_and_ends() {
    let out = succeed(&["demo", "--exit", "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"]);
    for part in ["setosa", "0.9778", "0.9978", "HTTP JSON", "HTTP binary", "gRPC", "450", "WRONG", "█"] {
        assert!(out.contains(part), "{part:?} in {out}");
    }
}
