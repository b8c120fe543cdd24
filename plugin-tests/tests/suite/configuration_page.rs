//! docs/reference/configuration.md has each option of the library, with the type, the default and
//! the range that the library has. The library's errors and its `describe` show these; librdkafka
//! shows those of its properties.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use octopus_loader::{Driver, Error, Result, Status, Topic, TopicOptions};
use proc_macro2::{TokenStream, TokenTree};
use rdkafka::ClientConfig;
use serde_json::{Value, json};

use crate::kafka::unique;
use crate::support::{driver, octopus};

const OPTIONS: &str = "| option | type | unit | default | range | meaning |";
const PROPERTIES: &str = "| property | type | unit | default | range | meaning |";

/// Words in `src/config` that look like options and are none: values, parts of the names of
/// librdkafka's properties, attributes.
const OTHER_WORDS: &str = "acknowledged acks as_name assertion auto aws bootstrap bytes credential dedicated default diaspora false http https in_millis \
    in_seconds jaas json key local localhost null password plaintext retries sasl_plaintext sasl_ssl secret selector servers shared skip ssl stop token transaction true";

#[test]
fn options_have_the_type_and_range_of_the_library() {
    let problems: Vec<_> = rows(&page(), OPTIONS).iter().flat_map(option_problems).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn options_have_the_default_of_the_library() {
    let problems: Vec<_> = rows(&page(), OPTIONS).iter().filter_map(default_problem).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn page_has_the_options_of_the_sources_and_no_others() {
    let documented: BTreeSet<_> = rows(&page(), OPTIONS).into_iter().map(|row| row.name).collect();
    let other: BTreeSet<_> = OTHER_WORDS.split(' ').map(str::to_owned).collect();
    let words = words_of_sources();
    let options: BTreeSet<_> = words.difference(&other).cloned().collect();
    assert_eq!(options, documented, "the options in src/config, and those of the page");
    assert_eq!(other.difference(&words).collect::<Vec<_>>(), [""; 0], "`OTHER_WORDS` that src/config no longer has");
}

#[test]
fn properties_have_the_default_and_range_of_librdkafka() {
    let problems: Vec<_> = rows(&page(), PROPERTIES).iter().flat_map(property_problems).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// docs/reference/limits.md names where its numbers come from: files, and constants in them.
#[test]
fn limits_page_names_existing_files_and_constants() {
    let page = fs::read_to_string(root().join("docs/reference/limits.md")).unwrap();
    let rows = page.lines().filter(|line| line.matches(" | ").count() == 3);
    let sources = rows.filter_map(|line| line.strip_suffix(" |")?.rsplit_once(" | "));
    let (mut constants, mut files) = (Vec::new(), 0);
    for text in sources.flat_map(|(_, source)| source.split('`').skip(1).step_by(2)) {
        if text.starts_with("src/") || text.starts_with("plugin-tests/") {
            let source = fs::read_to_string(root().join(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
            for constant in constants.drain(..) {
                assert!(source.contains(&format!("const {constant}:")), "{text} has no constant {constant}");
            }
            files += 1;
        } else if text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_') {
            constants.push(text);
        }
    }
    assert!(files > 20, "the page names files, such as `src/record.rs`");
}

/// The checks above find a planted difference of each kind.
#[test]
fn planted_differences_are_found() {
    let page = page();
    let planted = |from: &str, to: &str| {
        assert_eq!(page.matches(from).count(), 1, "{from} is on the page once");
        page.replace(from, to)
    };
    for (name, from, to) in [
        ("timeout_ms", "| `timeout_ms` | number | ms | 60,000 | 1 to", "| `timeout_ms` | number | ms | 60,000 | 0 to"),
        ("open_retry_ms", "| 5,000 | 0 to 2,147,483,647 | how long `open_topic`", "| 5,000 | 0 to 60,000 | how long"),
        ("namespace", "| `namespace` | string |", "| `namespace` | boolean |"),
        ("client", "| `shared`, `dedicated` |", "| `shared`, `separate` |"),
        ("brokers", "| `brokers` | number | brokers | 1 |", "| `servers` | number | brokers | 1 |"),
        ("profile", "| `profile` | string | | none | not empty |", "| `profile` | number | | none | 1 to 2 |"),
    ] {
        let page = planted(from, to);
        let rows = rows(&page, OPTIONS);
        let row = rows.iter().find(|row| [name, "servers"].contains(&row.name.as_str())).unwrap();
        assert!(!option_problems(row).is_empty(), "{to} is not found");
    }
    for (name, from, to) in [
        ("exit_flush_ms", "| ms | 5,000 | 0 to 2,147,483,647 | how long the process", "| ms | 0 | 0 to 9 | how long"),
        ("info_topic_prefix", "| `__info_`; with", "| `info_`; with"),
        ("region", "| `region` | string | | required |", "| `region` | string | | `us-east-1` |"),
        ("replication_factor", "| copies | 3; embedded", "| copies | 1; embedded"),
    ] {
        let rows = rows(&planted(from, to), OPTIONS);
        let row = rows.iter().find(|row| row.name == name).unwrap();
        assert!(default_problem(row).is_some(), "{to} is not found");
    }
    for (name, from, to) in [
        ("linger.ms", "| ms | 5 | 0 to 900,000 |", "| ms | 5 | 0 to 900,001 |"),
        ("batch.size", "| `batch.size` | number | bytes | 1,000,000 |", "| `batch.size` | number | bytes | 16,384 |"),
        ("check.crcs", "| `true` (`false`) |", "| `true` |"),
        ("isolation.level", "| `read_committed`, `read_uncommitted` |", "| `read_committed`, `serializable` |"),
    ] {
        let rows = rows(&planted(from, to), PROPERTIES);
        let row = rows.iter().find(|row| row.name == name).unwrap();
        assert!(!property_problems(row).is_empty(), "{to} is not found");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn page() -> String {
    fs::read_to_string(root().join("docs/reference/configuration.md")).unwrap()
}

/// One row of a table.
struct Row {
    section: String,
    name: String,
    kind: String,
    default: String,
    range: String,
}

/// The rows of the page's tables with this header.
fn rows(page: &str, header: &str) -> Vec<Row> {
    let (mut rows, mut section, mut is_in_table) = (Vec::new(), "", false);
    for line in page.lines() {
        section = line.strip_prefix("## ").unwrap_or(section);
        is_in_table = line == header || is_in_table && line.starts_with("| ");
        if !is_in_table || line == header || line.starts_with("| ---") {
            continue;
        }
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().to_owned()).collect();
        let [_, name, kind, _unit, default, range, _meaning, _] = <[_; 8]>::try_from(cells).expect(line);
        let name = name.trim_matches('`').to_owned();
        rows.push(Row { section: section.to_owned(), name, kind, default, range });
    }
    assert!(!rows.is_empty(), "the page has no table with the header {header}");
    rows
}

impl Row {
    /// The option as errors name it.
    fn path(&self) -> String {
        match self.section.as_str() {
            "Amazon MSK" => format!("aws_msk_iam.{}", self.name),
            "The topic service" => format!("octopus.{}", self.name),
            "The embedded Kafka" => format!("embedded.{}", self.name),
            "Globus" => format!("globus.{}", self.name),
            _ => self.name.clone(),
        }
    }

    /// The bounds of a number, of `1 to 900`.
    fn bounds(&self) -> (i64, i64) {
        let range = self.range.replace(',', "");
        let (min, max) = range.split(';').next().and_then(|range| range.split_once(" to ")).expect(&self.name);
        (min.parse().unwrap(), max.parse().unwrap())
    }

    /// The values of a string that has only some, each in backticks.
    fn values(&self) -> Vec<&str> {
        let values = self.range.split(", ").map(|word| word.strip_prefix('`')?.strip_suffix('`'));
        let values: Vec<_> = values.collect::<Option<_>>().unwrap_or_default();
        if values.iter().any(|value| value.contains('`')) { Vec::new() } else { values }
    }

    /// A cell's text without its form.
    fn plain(&self, cell: &str) -> String {
        let text = cell.trim_matches('`');
        if self.kind == "number" { text.replace(',', "") } else { text.to_owned() }
    }

    /// The first of the alternative defaults, `None` if there is none.
    fn default(&self) -> Option<String> {
        let first = self.default.split(';').next().unwrap_or_default();
        let is_missing = first.starts_with("none") || first.starts_with("required");
        (!is_missing).then(|| self.plain(first))
    }
}

/// How the library rejects wrong values of an option, compared with its row.
fn option_problems(row: &Row) -> Vec<String> {
    let (path, values) = (row.path(), row.values());
    let (wrong, expected) = match (row.kind.as_str(), values.as_slice()) {
        ("number", _) => {
            let (min, max) = row.bounds();
            (vec![json!("soon"), json!(min - 1), json!(max + 1)], format!("a whole number from {min} to {max}"))
        }
        ("boolean", _) => (vec![json!("maybe"), json!(7)], "true or false".to_owned()),
        ("object", _) => (vec![json!(7)], "an object".to_owned()),
        ("string", []) => (vec![json!(7)], "a string".to_owned()),
        ("string", [others @ .., last]) => {
            let others: Vec<_> = others.iter().map(|value| format!("{value:?}")).collect();
            (vec![json!(7), json!("another")], format!("{} or {last:?}", others.join(", ")))
        }
        (kind, _) => return vec![format!("{path}: the type {kind:?} is unknown")],
    };
    let right = match row.kind.as_str() {
        "number" => vec![json!(row.bounds().0), json!(row.bounds().1), json!(row.bounds().0.to_string())],
        "boolean" => vec![json!(true), json!("false")],
        _ => values.iter().map(|value| json!(value)).collect(),
    };
    let expected = format!("configuration: {path}: expected {expected}, got");
    let unexpected = wrong.iter().filter_map(|value| match rejection(use_option(row, value)) {
        Some(message) if message.contains(&expected) => None,
        other => Some(format!("{path} = {value}: {expected:?} is not in {other:?}")),
    });
    let mut problems: Vec<_> = unexpected.collect();
    problems.extend(
        right.iter().filter_map(|value| Some(format!("{path} = {value}: {}", rejection(use_option(row, value))?))),
    );
    // A string with a range, such as "not empty", is never empty.
    if row.kind == "string" && !row.range.is_empty() && values.is_empty() {
        let message = rejection(use_option(row, &json!(""))).unwrap_or_default();
        if !message.contains(&format!("configuration: {path}: ")) {
            problems.push(format!("{path} = \"\" is not rejected: {message:?}"));
        }
    }
    problems
}

/// The message of a call that rejects its configuration.
fn rejection(result: Result<()>) -> Option<String> {
    let Err(Error { status: Status::InvalidConfiguration, message, .. }) = result else { return None };
    Some(message)
}

/// Uses an option with this value.
fn use_option(row: &Row, value: &Value) -> Result<()> {
    let option = json!({&row.name: value});
    match (row.section.as_str(), row.name.as_str()) {
        ("The driver", "kafka" | "embedded" | "globus") => driver_of(option),
        ("The driver", "aws_msk_iam" | "octopus") => driver_of(with(unreachable(), option)),
        ("The driver", _) => driver_of(with(json!({"embedded": {}}), option)),
        ("The embedded Kafka", _) => driver_of(json!({"embedded": option})),
        ("Amazon MSK", _) => driver_of(with(unreachable(), json!({"aws_msk_iam": with(msk(), option)}))),
        ("The topic service", _) => driver_of(with(unreachable(), json!({"octopus": with(service(), option)}))),
        ("Globus", _) => driver_of(json!({"globus": option})),
        ("A topic", name) => {
            create(unreachable())?.create_topic("t", &TopicOptions::default().option(name, value.clone()))
        }
        ("A producer", name) => embedded_topic().producer("p").option(name, value.clone()).make().map(drop),
        ("A consumer", name) => embedded_topic().consumer("c").option(name, value.clone()).make().map(drop),
        (section, _) => panic!("the options of {section:?} are unknown to this test"),
    }
    .map(drop)
}

fn create(config: Value) -> Result<Driver> {
    octopus().driver_builder(config).log(|_, _, _| {}).create()
}

fn driver_of(config: Value) -> Result<()> {
    create(config).map(drop)
}

/// Settings with which a driver can be created and reaches no broker.
fn unreachable() -> Value {
    let kafka = json!({"bootstrap.servers": "127.0.0.1:1"});
    json!({"kafka": kafka, "namespace": "ns", "timeout_ms": 1, "connect_timeout_ms": 1})
}

fn msk() -> Value {
    json!({"region": "us-east-1", "role_arn": "arn:aws:iam::123456789012:role/scan-writer"})
}

fn service() -> Value {
    json!({"subject": "me", "authorization": "Bearer x"})
}

/// The settings, with those of `more` at the same level in their place.
fn with(mut settings: Value, more: Value) -> Value {
    let (Some(object), Value::Object(more)) = (settings.as_object_mut(), more) else { panic!("expected objects") };
    object.extend(more);
    settings
}

fn embedded_topic() -> Topic {
    let driver = create(json!({"embedded": {}})).unwrap();
    driver.create_topic("t", &TopicOptions::default()).unwrap();
    driver.open_topic("t").unwrap()
}

/// The default that the library has, compared with the row.
fn default_problem(row: &Row) -> Option<String> {
    let described = |config| create(config).unwrap().describe().unwrap();
    let without = |outer: &str, object: Value| rejection(driver_of(with(unreachable(), json!({outer: object}))));
    let actual = match (row.section.as_str(), row.name.as_str()) {
        ("The driver", "kafka") => Err(rejection(driver_of(json!({})))),
        ("The driver", name @ ("aws_msk_iam" | "octopus" | "embedded")) => Ok(described(unreachable())[name].clone()),
        ("The driver", name) => Ok(described(json!({"embedded": {}}))[name].clone()),
        ("The embedded Kafka", name) => Ok(described(json!({"embedded": {}}))["embedded"][name].clone()),
        ("Amazon MSK", "region") => Err(without("aws_msk_iam", json!({}))),
        // Without the feature, a role is not supported.
        ("Amazon MSK", "role_session_name") if !cfg!(feature = "aws") => return None,
        ("Amazon MSK", "role_session_name") => {
            Ok(described(with(unreachable(), json!({"aws_msk_iam": msk()})))["aws_msk_iam"]["role"]["session_name"]
                .clone())
        }
        ("Amazon MSK", name) => {
            let name = if name == "role_arn" { "role" } else { name };
            let config = with(unreachable(), json!({"aws_msk_iam": {"region": "us-east-1"}}));
            Ok(described(config)["aws_msk_iam"][name].clone())
        }
        ("The topic service", "subject") => Err(without("octopus", json!({"authorization": "x"}))),
        ("The topic service", "authorization") => Err(without("octopus", json!({"subject": "x"}))),
        ("A topic", "num_partitions") => Ok(json!(embedded_topic().partition_count())),
        ("A topic", "replication_factor") => {
            // A single broker rejects the default and names it.
            let error = driver().create_topic(&unique("replicas"), &TopicOptions::default()).unwrap_err();
            let names_default =
                row.default().is_some_and(|count| error.message.contains(&format!("the partition {count} time")));
            return (!names_default).then(|| format!("replication_factor: {} is not in {error}", row.default));
        }
        // The error names the values, the default first.
        (_, "client" | "commits" | "on_damaged" | "partitioner") => Ok(json!(row.values().first())),
        // They have no default, or one that is not a value.
        _ => return None,
    };
    match (actual, row.default()) {
        (Err(Some(message)), None) if message.contains(&format!("{}: missing", row.path())) => None,
        (Ok(Value::Null), None) => None,
        (Ok(value), Some(default)) if value.as_str().map_or_else(|| value.to_string(), str::to_owned) == default => {
            None
        }
        (actual, _) => {
            Some(format!("{}: the page's default is {}, and the library has {actual:?}", row.path(), row.default))
        }
    }
}

/// The words in the sources that may be names of options: texts of small letters and underscores.
fn words_of_sources() -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for entry in fs::read_dir(root().join("src/config")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("tests.rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let (code, tests) = text.split_once("#[cfg(test)]\n").unwrap_or((&text, "mod tests"));
        assert!(tests.starts_with("mod tests"), "{}: unit tests are at the end", path.display());
        add_words(code.parse().unwrap(), &mut words);
    }
    words
}

fn add_words(tokens: TokenStream, words: &mut BTreeSet<String>) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => add_words(group.stream(), words),
            TokenTree::Literal(literal) => {
                let literal = literal.to_string();
                let text = literal.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or_default();
                if !text.is_empty()
                    && !text.ends_with('_')
                    && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
                {
                    words.insert(text.to_owned());
                }
            }
            _ => {}
        }
    }
}

/// librdkafka's default and range of a property, compared with its row.
fn property_problems(row: &Row) -> Vec<String> {
    let mut problems = Vec::new();
    let name = row.name.as_str();
    let set = |value: &str| {
        rejection(driver_of(json!({"kafka": {"bootstrap.servers": "x:1", name: value}}))).unwrap_or_default()
    };
    if row.kind == "number" {
        let (min, max) = row.bounds();
        let message = set(&(min - 1).to_string());
        if !message.contains(&format!("outside allowed range {min}..{max}")) {
            problems.push(format!("{name}: {min} to {max} is not in {message:?}"));
        }
    }
    // Another value than the listed ones is rejected.
    let values = row.values();
    let another = (!values.is_empty()).then_some("another");
    for value in values.iter().copied().chain(another) {
        let (message, is_listed) = (set(value), values.contains(&value));
        if message.contains("Invalid value") == is_listed {
            problems.push(format!("{name} = {value}: {message:?}"));
        }
    }
    // In parentheses is librdkafka's default where the plugin's differs.
    let default = row.default.split_once(" (").map_or(row.default.as_str(), |(_, text)| text.trim_end_matches(')'));
    if row.default().is_some() && !default.contains(' ') {
        let (default, actual) = (row.plain(default), librdkafka_default(name));
        if actual != default {
            problems.push(format!("{name}: librdkafka's default is {actual:?}, not {default:?}"));
        }
    }
    problems
}

fn librdkafka_default(name: &str) -> String {
    // With a property of topics the configuration has all of them.
    let config = ClientConfig::new().set("request.timeout.ms", "30000").create_native_config().unwrap();
    config.get(name).unwrap_or_default().trim_end_matches('\0').to_owned()
}
