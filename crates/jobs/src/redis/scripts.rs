//! The scripts, and how they are called.

use std::sync::LazyLock;

use redis::aio::ConnectionManager;
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation, ToRedisArgs};

use crate::standing::MOST_EVENTS;
use crate::types::JobId;

/// A script, which Redis is given when it does not know it yet.
pub(super) struct Known(LazyLock<Script>);

macro_rules! known {
    ($($name:ident: $file:literal,)*) => {
        $(pub(super) static $name: Known = Known(LazyLock::new(|| script(include_str!($file))));)*
    };
}

known! {
    ANSWER: "scripts/answer.lua",
    CALLBACKS: "scripts/callbacks.lua",
    CLAIM: "scripts/claim.lua",
    CLEAR: "scripts/clear.lua",
    GATE: "scripts/gate.lua",
    GET: "scripts/get.lua",
    HELD: "scripts/held.lua",
    LIST: "scripts/list.lua",
    OPEN: "scripts/open.lua",
    PUT_OFF: "scripts/put_off.lua",
    PURGE: "scripts/purge.lua",
    RENEW: "scripts/renew.lua",
    REPLAY: "scripts/replay.lua",
    SAVE: "scripts/save.lua",
    STATS: "scripts/stats.lua",
    SUBMIT: "scripts/submit.lua",
}

fn script(text: &str) -> Script {
    Script::new(&format!("local MOST_EVENTS = {MOST_EVENTS}\n{}{text}", include_str!("scripts/common.lua")))
}

impl Known {
    pub(super) fn call(&'static self) -> Call {
        Call(self.0.prepare_invoke())
    }
}

/// A call of a script, with what it is told.
pub(super) struct Call(ScriptInvocation<'static>);

impl Call {
    pub(super) fn arg(mut self, value: impl ToArg) -> Self {
        value.tell(&mut self.0);
        self
    }

    pub(super) async fn run<T: FromRedisValue>(
        mut self,
        prefix: &str,
        connection: &mut ConnectionManager,
    ) -> Result<T, RedisError> {
        self.0.key(prefix);
        self.0.invoke_async(connection).await
    }
}

/// What a script may be told.
pub(super) trait ToArg {
    fn tell(&self, call: &mut ScriptInvocation<'static>);
}

impl<T: ToRedisArgs> ToArg for T {
    fn tell(&self, call: &mut ScriptInvocation<'static>) {
        call.arg(self);
    }
}

impl ToArg for JobId {
    fn tell(&self, call: &mut ScriptInvocation<'static>) {
        call.arg(self.to_string());
    }
}
