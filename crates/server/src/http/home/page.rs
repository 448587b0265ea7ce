//! The page at `/` for browsers: every model with its state, what it takes and gives, and a
//! command to paste.
//!
//! Pure: a [`View`] in, a document out. No script, nothing from elsewhere, and every text that
//! came from a file or a request is escaped. What a model is called never reaches an attribute
//! unencoded.

use std::fmt::Write as _;
use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use salver_core::{Batching, DataType, ModelInfo, ModelState, ModelStatus, TensorSpec};
use salver_protocol::plain;

/// What the page shows.
pub(super) struct View<'a> {
    /// The server's name and version.
    pub server: (&'a str, &'a str),
    /// The engines, for people to read.
    pub engines: &'a [String],
    /// Whether every model serves that should.
    pub is_ready: bool,
    /// What does not answer and requests do without.
    pub degraded: &'a [&'static str],
    /// The model of routes that name none.
    pub default_model: Option<&'a str>,
    /// Whether clients may load and unload models.
    pub explicit_control: bool,
    /// Host and port as the reader reached them; safe to paste.
    pub host: &'a str,
    /// Every version, sorted by name and version.
    pub models: &'a [Entry],
}

/// One version of a model.
pub(super) struct Entry {
    /// Its state.
    pub status: ModelStatus,
    /// What it takes and gives, where it serves.
    pub info: Option<Arc<ModelInfo>>,
}

/// Where the pages for users are.
const DOCS: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/tree/main/docs");

/// Longer examples are described instead of shown.
const LONGEST_EXAMPLE: usize = 2000;

/// Longer lists of columns or labels are folded.
const MOST_NAMES: usize = 12;

/// What a path segment holds as it is.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.').remove(b'+');

/// Returns the document.
pub(super) fn render(view: &View<'_>) -> String {
    let mut page = String::from(HEAD);
    write_header(&mut page, view);
    page.push_str("<main>\n");
    if view.models.is_empty() {
        page.push_str(NO_MODEL);
    } else {
        write_index(&mut page, view);
    }
    for entry in view.models {
        write_model(&mut page, view, entry);
    }
    page.push_str("</main>\n");
    write_footer(&mut page, view);
    page.push_str("</body>\n</html>\n");
    page
}

fn write_header(page: &mut String, view: &View<'_>) {
    let (name, version) = view.server;
    let (state, class) = match view {
        View { is_ready: false, .. } => ("not ready".to_owned(), "waiting"),
        View { degraded: [], .. } => ("ready".to_owned(), "ready"),
        View { degraded, .. } => (format!("ready without {}", degraded.join(" and ").replace('_', " ")), "waiting"),
    };
    let _ = write!(
        page,
        "<header>\n<h1>{} <small>{}</small> <span class=\"state {class}\">{state}</span></h1>\n\
         <nav aria-label=\"Server\">\n<a href=\"/metrics\">Metrics</a>\n<a href=\"/openapi.json\">OpenAPI</a>\n\
         <a href=\"/models\">Models as JSON</a>\n<a href=\"{DOCS}\">Documentation</a>\n</nav>\n</header>\n",
        escaped(name),
        escaped(version)
    );
}

const NO_MODEL: &str = "<section>
<h2>No model yet</h2>
<p>Start the server with the path of a model, a folder of models or a model repository:</p>
<pre><code>salver serve iris.onnx</code></pre>
<p>Without a path, it serves what lies in <code>./models</code>.</p>
</section>
";

fn write_index(page: &mut String, view: &View<'_>) {
    let count = view.models.len();
    let ready = view.models.iter().filter(|entry| entry.status.state == Some(ModelState::Ready)).count();
    let _ = writeln!(page, "<section>\n<h2>Models <small>{ready} of {count} ready</small></h2>");
    page.push_str(
        "<table>\n<thead><tr><th scope=\"col\">Model</th>\
         <th scope=\"col\">Version</th><th scope=\"col\">State</th></tr></thead>\n<tbody>\n",
    );
    for Entry { status, .. } in view.models {
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\"><a href=\"#{}\">{}</a></th><td>{}</td><td>{}</td></tr>",
            anchor(status),
            escaped(&status.name),
            version_of(status),
            badge(status)
        );
    }
    page.push_str("</tbody>\n</table>\n</section>\n");
}

fn write_model(page: &mut String, view: &View<'_>, entry: &Entry) {
    let Entry { status, info } = entry;
    let version = status.version.map_or(String::new(), |version| format!(" <small>version {version}</small>"));
    let _ = writeln!(
        page,
        "<section id=\"{}\">\n<h2>{}{version} {}</h2>",
        anchor(status),
        escaped(&status.name),
        badge(status)
    );
    if !status.reason.is_empty() {
        let _ = writeln!(page, "<p class=\"reason\">{}</p>", escaped(&status.reason));
    }
    match info {
        Some(info) => write_info(page, view.host, info),
        None if view.explicit_control && is_off(status) => write_load(page, view.host, &status.name),
        None => {}
    }
    page.push_str("</section>\n");
}

fn write_info(page: &mut String, host: &str, info: &ModelInfo) {
    let rows = match info.signature.batching {
        Batching::Fixed => "no batch dimension".to_owned(),
        Batching::Rows { limit: None } => "any number of rows a request".to_owned(),
        Batching::Rows { limit: Some(limit) } => format!("at most {limit} rows a request"),
    };
    let _ = write!(page, "<p class=\"facts\">Engine {} · task {} · {rows}", escaped(&info.engine), escaped(&info.task));
    for (metric, value) in &info.metrics {
        let _ = write!(page, " · {} {value}", escaped(metric));
    }
    page.push_str("</p>\n");
    write_tensors(page, "Inputs", "Columns", &info.signature.inputs, &info.columns);
    write_tensors(page, "Outputs", "Labels", &info.signature.outputs, &info.labels);
    write_example(page, host, info);
}

/// `key` heads the names of a tensor's columns or labels, where there are any.
fn write_tensors(page: &mut String, caption: &str, key: &str, specs: &[TensorSpec], names: &[Vec<String>]) {
    let names = |idx: usize| names.get(idx).map(Vec::as_slice).unwrap_or_default();
    let has_names = (0..specs.len()).any(|idx| !names(idx).is_empty());
    let header = if has_names { format!("<th scope=\"col\">{key}</th>") } else { String::new() };
    let _ = writeln!(
        page,
        "<table>\n<caption>{caption}</caption>\n<thead><tr><th scope=\"col\">Name</th><th scope=\"col\">Type</th>\
         <th scope=\"col\">Shape</th>{header}</tr></thead>\n<tbody>"
    );
    for (idx, spec) in specs.iter().enumerate() {
        let optional = if spec.optional { " <small>optional</small>" } else { "" };
        let cell = if has_names { format!("<td>{}</td>", name_list(names(idx))) } else { String::new() };
        let _ = writeln!(
            page,
            "<tr><th scope=\"row\">{}{optional}</th><td>{}</td><td>{}</td>{cell}</tr>",
            escaped(&spec.name),
            spec.dtype,
            shape(spec)
        );
    }
    page.push_str("</tbody>\n</table>\n");
}

/// Writes `any × 4`: people count rows, they do not know `-1`.
fn shape(spec: &TensorSpec) -> String {
    let extents: Vec<String> = spec
        .wire_shape()
        .iter()
        .map(|&extent| if extent < 0 { "any".to_owned() } else { extent.to_string() })
        .collect();
    if extents.is_empty() { "one value".to_owned() } else { extents.join(" × ") }
}

fn name_list(names: &[String]) -> String {
    let list = escaped(&names.join(", "));
    if names.len() <= MOST_NAMES {
        return list;
    }
    format!("<details><summary>{} names</summary>{list}</details>", names.len())
}

fn write_example(page: &mut String, host: &str, info: &ModelInfo) {
    page.push_str("<h3>Try it</h3>\n");
    let url = |suffix: &str| shell_word(format!("http://{host}{}{suffix}", path_of(info)));
    if let Some(file) = plain::sample_file(info) {
        write_command(page, &format!("curl {} --data-binary @{file}", url("/predict")));
        return;
    }
    let example = plain::example(info);
    let body = example.to_string();
    if !example.is_null() && body.len() <= LONGEST_EXAMPLE {
        write_command(page, &format!("curl {} -d {}", url("/predict"), quoted(&body)));
        return;
    }
    page.push_str("<p>An example would be too long to show. ");
    let takes_array = matches!(&info.signature.inputs[..], [only] if only.dtype != DataType::Bytes);
    if takes_array {
        page.push_str("Send the input as a file of NumPy (<code>numpy.save</code>):</p>\n");
        write_command(page, &format!("curl {} --data-binary @input.npy", url("/predict")));
    } else {
        page.push_str("Put the inputs by name into a file, as nested lists:</p>\n");
        write_command(page, &format!("curl {} -d @input.json", url("/predict")));
    }
}

fn write_load(page: &mut String, host: &str, name: &str) {
    page.push_str("<h3>Load it</h3>\n");
    let url = format!("http://{host}/v2/repository/models/{}/load", encoded(name));
    write_command(page, &format!("curl -X POST {}", shell_word(url)));
}

fn write_command(page: &mut String, command: &str) {
    let _ = writeln!(page, "<pre><code>{}</code></pre>", escaped(command));
}

fn write_footer(page: &mut String, view: &View<'_>) {
    page.push_str(
        "<footer>\n<p>The same models answer over the Open Inference Protocol (<code>/v2</code> and gRPC, on this \
         port too), TensorFlow Serving’s REST API (<code>/v1</code>), OpenAI’s for embeddings (<code>/v1/embeddings</code>) and MLflow scoring (<code>/invocations</code>",
    );
    if let Some(name) = view.default_model {
        let _ = write!(page, ", answered by {}", escaped(name));
    }
    page.push_str(").</p>\n");
    if !view.engines.is_empty() {
        let _ = writeln!(page, "<p>Engines: {}.</p>", escaped(&view.engines.join("; ")));
    }
    page.push_str("</footer>\n");
}

fn path_of(info: &ModelInfo) -> String {
    format!("/models/{}/versions/{}", encoded(&info.name), info.version)
}

/// The section's id: encoded, so that it holds no space, quote or sign of HTML.
fn anchor(status: &ModelStatus) -> String {
    let version = status.version.map_or(String::new(), |version| format!(":{version}"));
    format!("model:{}{version}", encoded(&status.name).replace('%', "_"))
}

fn version_of(status: &ModelStatus) -> String {
    status.version.map_or_else(|| "–".to_owned(), |version| version.to_string())
}

fn badge(status: &ModelStatus) -> String {
    let class = match status.state {
        Some(ModelState::Ready) => "ready",
        Some(ModelState::Failed) => "failed",
        Some(ModelState::Pending | ModelState::Loading | ModelState::Warming | ModelState::Draining) => "waiting",
        // A folder that cannot be read has a reason and no state.
        None if !status.reason.is_empty() => "failed",
        Some(ModelState::Gone) | None => "off",
    };
    let text = status.state.map_or("not loaded", ModelState::as_str);
    format!("<span class=\"state {class}\">{text}</span>")
}

/// Whether nothing happens to the version until somebody asks for it.
fn is_off(status: &ModelStatus) -> bool {
    matches!(status.state, None | Some(ModelState::Gone | ModelState::Failed))
}

fn encoded(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// Quotes an address only where a shell would read something into it, as the brackets of IPv6.
fn shell_word(url: String) -> String {
    if url.contains('[') { quoted(&url) } else { url }
}

/// Quotes for a POSIX shell: in single quotes it takes everything but a single quote as it is.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Makes text safe inside an HTML element or a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<head>
<meta charset=\"utf-8\">
<title>Salver</title>
<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">
<meta name=\"color-scheme\" content=\"light dark\">
<link rel=\"icon\" href=\"data:,\">
<style>
:root {
  color-scheme: light dark;
  --text: #1c2024; --soft: #59616b; --line: #d9dde2; --page: #fff; --box: #f4f6f8;
  --link: #0b5cad; --good: #17692f; --bad: #b3261e; --wait: #855300;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6e8eb; --soft: #a2aab4; --line: #363c44; --page: #15181b; --box: #1f2429;
    --link: #7db7ff; --good: #6fd08a; --bad: #ff9a90; --wait: #f0bd63;
  }
}
* { box-sizing: border-box; }
body {
  font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; overflow-wrap: anywhere;
}
header { border-bottom: 1px solid var(--line); padding-bottom: .75rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 0 0 .5rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
small { color: var(--soft); font-size: .875rem; font-weight: normal; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; }
a { color: var(--link); }
section { margin-top: 1.5rem; padding-top: 1.5rem; border-top: 1px solid var(--line); }
main > section:first-child { border-top: 0; padding-top: 0; }
.state {
  display: inline-block; padding: 0 .5rem; border: 1px solid; border-radius: 1rem;
  font-size: .8125rem; font-weight: 600; line-height: 1.5; color: var(--soft); vertical-align: .1em; white-space: nowrap;
}
.ready { color: var(--good); } .failed { color: var(--bad); } .waiting { color: var(--wait); }
.reason { border-left: 3px solid var(--line); padding-left: .75rem; }
.facts { color: var(--soft); margin: 0 0 .75rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 500; } tbody th { min-width: 6.75rem; } thead th { color: var(--soft); font-size: .875rem; }
thead th, td:nth-child(2) { white-space: nowrap; }
td:last-child, th:last-child { padding-right: 0; }
pre { background: var(--box); border-radius: 6px; padding: .75rem; margin: .25rem 0; white-space: pre-wrap; }
code { font: .875rem/1.5 ui-monospace, monospace; }
footer { margin-top: 2rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--soft); font-size: .875rem; }
</style>
</head>
<body>
";

#[cfg(test)]
mod tests;
