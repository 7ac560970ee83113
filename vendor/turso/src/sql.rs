//! The statements of `cubecl-environment` 0.11.3, by their text with single blanks.

use crate::log::{Kind, Log, Record};
use crate::{Error, Result, Row, Value};

// persistence/turso.rs
const CREATE_META: &str = "CREATE TABLE IF NOT EXISTS meta ( k TEXT PRIMARY KEY, v TEXT NOT NULL )";
const META_GET: &str = "SELECT v FROM meta WHERE k = ?1";
const META_SET: &str =
    "INSERT INTO meta (k, v) VALUES (?1, ?2) ON CONFLICT(k) DO UPDATE SET v = excluded.v";
const CREATE_ENTRIES: &str = "CREATE TABLE IF NOT EXISTS entries ( namespace TEXT NOT NULL, key BLOB NOT NULL, \
    value BLOB NOT NULL, origin INTEGER NOT NULL, PRIMARY KEY (namespace, key) )";
const DROP_ENTRIES: &str = "DROP TABLE IF EXISTS entries";
const INSERT: &str = "INSERT INTO entries (namespace, key, value, origin) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT(namespace, key) DO UPDATE SET value = excluded.value, origin = excluded.origin \
    WHERE entries.origin = 1 AND excluded.origin = 0";
const REPLACE: &str = "INSERT INTO entries (namespace, key, value, origin) VALUES (?1, ?2, ?3, ?4) \
    ON CONFLICT(namespace, key) DO UPDATE SET value = excluded.value, origin = excluded.origin";
const SELECT: &str = "SELECT value FROM entries WHERE namespace = ?1 AND key = ?2";
const SCAN: &str = "SELECT key, value, origin FROM entries WHERE namespace = ?1";
const PURGE: &str = "DELETE FROM entries WHERE namespace = ?1";
const PURGE_KEY: &str = "DELETE FROM entries WHERE namespace = ?1 AND key = ?2";
const SUMMARY: &str = "SELECT namespace, COUNT(*), SUM(length(key) + length(value)) FROM entries \
    GROUP BY namespace ORDER BY namespace";
// bundle/sqlite.rs
const SCAN_BUNDLE: &str = "SELECT key, value FROM entries WHERE namespace = ?1";
const NAMESPACES: &str = "SELECT DISTINCT namespace FROM entries ORDER BY namespace";
// bundle/export.rs
const ALL: &str = "SELECT namespace, key, value FROM entries";
const ALL_UNDER: &str = "SELECT namespace, key, value FROM entries \
    WHERE namespace = ?1 OR substr(namespace, 1, length(?1) + 1) = ?1 || '/'";
const INSERT_IMPORTED: &str = "INSERT INTO entries (namespace, key, value, origin) VALUES (?1, ?2, ?3, 1) ON CONFLICT DO NOTHING";
const DELETE_UNDER: &str =
    "DELETE FROM entries WHERE namespace = ?1 OR substr(namespace, 1, length(?1) + 1) = ?1 || '/'";
const VACUUM: &str = "VACUUM";

fn single_blanks(sql: &str) -> String {
    sql.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unknown(sql: &str) -> Error {
    Error::Misuse(format!(
        "vendor/turso does not know this statement with these parameters: {sql}"
    ))
}

pub(crate) fn query(log: &mut Log, sql: &str, params: &[Value]) -> Result<Vec<Row>> {
    use Value::{Blob, Integer, Text};
    let integer = |number: u64| Integer(number.cast_signed());
    let sql = single_blanks(sql);
    Ok(match (sql.as_str(), params) {
        (META_GET, [Text(key)]) => log
            .meta(key)
            .map(|value| Row(vec![Text(value.into())]))
            .into_iter()
            .collect(),
        (SELECT, [Text(namespace), Blob(key)]) => log
            .entry(namespace, key)?
            .map(|row| Row(vec![Blob(row.value)]))
            .into_iter()
            .collect(),
        (SCAN, [Text(namespace)]) => rows(
            log,
            |name| name == namespace,
            |row| {
                Row(vec![
                    Blob(row.key),
                    Blob(row.value),
                    Integer((row.kind == Kind::Imported).into()),
                ])
            },
        )?,
        (SCAN_BUNDLE, [Text(namespace)]) => rows(
            log,
            |name| name == namespace,
            |row| Row(vec![Blob(row.key), Blob(row.value)]),
        )?,
        (ALL, []) => rows(log, |_| true, all_columns)?,
        (ALL_UNDER, [Text(prefix)]) => rows(log, |name| under(name, prefix), all_columns)?,
        (SUMMARY, []) => log
            .namespaces()
            .map(|(name, keys)| {
                let bytes = keys.values().map(|slot| slot.content_len(name)).sum();
                Row(vec![
                    Text(name.clone()),
                    integer(keys.len() as u64),
                    integer(bytes),
                ])
            })
            .collect(),
        (NAMESPACES, []) => log
            .namespaces()
            .map(|(name, _)| Row(vec![Text(name.clone())]))
            .collect(),
        _ => return Err(unknown(&sql)),
    })
}

fn all_columns(row: Record) -> Row {
    Row(vec![
        Value::Text(row.namespace),
        Value::Blob(row.key),
        Value::Blob(row.value),
    ])
}

/// The rows of the namespaces that `selected` picks, in the order of their keys.
fn rows(
    log: &mut Log,
    selected: impl Fn(&str) -> bool,
    row: impl Fn(Record) -> Row,
) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (namespace, key) in log.keys(selected) {
        rows.extend(log.entry(&namespace, &key)?.map(&row));
    }
    Ok(rows)
}

/// Whether `namespace` is `prefix` or below it, in whole segments.
fn under(namespace: &str, prefix: &str) -> bool {
    namespace
        .strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Runs a statement that writes, in the open transaction of `log`; returns how many rows changed.
pub(crate) fn execute(log: &mut Log, sql: &str, params: &[Value]) -> Result<u64> {
    use Value::{Blob, Integer, Text};
    let sql = single_blanks(sql);
    match (sql.as_str(), params) {
        // The tables are always there.
        (CREATE_META | CREATE_ENTRIES, []) => Ok(0),
        (META_SET, [Text(key), Text(value)]) => {
            log.append(Record::new(Kind::Meta, key, &[], value.as_bytes()))?;
            Ok(1)
        }
        (DROP_ENTRIES, []) => {
            log.append(Record::new(Kind::Clear, "", &[], &[]))?;
            Ok(0)
        }
        // A value of this machine replaces an imported one, and nothing else replaces anything.
        (INSERT, [Text(namespace), Blob(key), Blob(value), Integer(origin)]) => {
            put(log, namespace, key, value, *origin, |old| {
                old == Kind::Imported && *origin == 0
            })
        }
        (REPLACE, [Text(namespace), Blob(key), Blob(value), Integer(origin)]) => {
            put(log, namespace, key, value, *origin, |_| true)
        }
        (INSERT_IMPORTED, [Text(namespace), Blob(key), Blob(value)]) => {
            put(log, namespace, key, value, 1, |_| false)
        }
        (PURGE, [Text(namespace)]) => remove(log, log.keys(|name| name == namespace)),
        (PURGE_KEY, [Text(namespace), Blob(key)]) => {
            let row = log.entry(namespace, key)?;
            let keys = row.map(|row| (row.namespace, row.key));
            remove(log, keys.into_iter().collect())
        }
        (DELETE_UNDER, [Text(prefix)]) => remove(log, log.keys(|name| under(name, prefix))),
        (VACUUM, []) if !log.written() => {
            log.rewrite()?;
            Ok(0)
        }
        _ => Err(unknown(&sql)),
    }
}

fn put(
    log: &mut Log,
    namespace: &str,
    key: &[u8],
    value: &[u8],
    origin: i64,
    replaces: impl Fn(Kind) -> bool,
) -> Result<u64> {
    // A damaged row counts as absent, so that it is written again.
    if log
        .entry(namespace, key)?
        .is_some_and(|old| !replaces(old.kind))
    {
        return Ok(0);
    }
    let kind = if origin == 0 {
        Kind::Local
    } else {
        Kind::Imported
    };
    log.append(Record::new(kind, namespace, key, value))?;
    Ok(1)
}

fn remove(log: &mut Log, keys: Vec<(String, Vec<u8>)>) -> Result<u64> {
    let removed = keys.len() as u64;
    for (namespace, key) in keys {
        log.append(Record::new(Kind::Removed, &namespace, &key, &[]))?;
    }
    Ok(removed)
}
