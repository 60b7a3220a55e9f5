//! `retrieval.store`: where the vectors lie.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize, Serializer};

/// What stands in a shown address in place of its password.
const HIDDEN: &str = "***";

/// `memory`, the address of a Postgres server (`postgres://USER@HOST:PORT/DATABASE`), or `env:NAME`, the environment variable that holds one.
///
/// A password in it is for the connection alone: it is not shown, not written and not part of the run's hash. A recorded address therefore
/// has none, and the password is then that of the environment variable `PGPASSWORD`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct StoreAddress(String);

impl StoreAddress {
    /// The vectors lie in this process's memory.
    pub fn is_memory(&self) -> bool {
        self.0 == "memory"
    }

    /// The environment variable that holds the address, if the spec names one.
    pub fn variable(&self) -> Option<&str> {
        self.0.strip_prefix("env:")
    }

    /// The address with its password.
    pub fn with_password(&self) -> &str {
        &self.0
    }

    /// Whether a password is one that was hidden when the address was written.
    pub fn is_hidden(password: &[u8]) -> bool {
        password == HIDDEN.as_bytes()
    }
}

/// The address with its password hidden.
impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((scheme, rest)) = self.0.split_once("://") else { return f.write_str(&self.0) };
        // As the client reads it: user and password end at the first `@`.
        match rest.split_once('@').map(|(user, host)| (user.split_once(':'), host)) {
            Some((Some((user, password)), host)) if !password.is_empty() => write!(f, "{scheme}://{user}:{HIDDEN}@{host}"),
            _ => f.write_str(&self.0),
        }
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for StoreAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl TryFrom<String> for StoreAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_variable = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        let is_address = text.starts_with("postgres://") || text.starts_with("postgresql://");
        if is_address && text.split_once('?').is_some_and(|(_, settings)| settings.contains("password=")) {
            return Err(
                "a password among the settings of an address would be recorded; set the environment variable `PGPASSWORD`".to_owned()
            );
        }
        if is_address || text == "memory" || text.strip_prefix("env:").is_some_and(is_variable) {
            return Ok(Self(text));
        }
        Err("unknown store, expected `memory`, `postgres://USER@HOST:PORT/DATABASE`, or `env:NAME` for the variable that holds an address"
            .to_owned())
    }
}

impl JsonSchema for StoreAddress {
    fn schema_name() -> Cow<'static, str> {
        "StoreAddress".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "`retrieval.store`", "type": "string", "pattern": "^(memory|env:[A-Za-z0-9_]+|postgres(ql)?://.*)$" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> StoreAddress {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn a_password_is_neither_shown_nor_written() {
        for (text, shown) in [
            ("postgres://me:s3cret@host:5432/db", "postgres://me:***@host:5432/db"),
            ("postgresql://me:a/b?c@host/db?sslmode=disable", "postgresql://me:***@host/db?sslmode=disable"),
            ("postgres://me@host/db", "postgres://me@host/db"),
            ("postgresql://me:@/db?host=/run/pg", "postgresql://me:@/db?host=/run/pg"),
            ("postgres://host:5432/db", "postgres://host:5432/db"),
            ("memory", "memory"),
            ("env:PG_ADDRESS", "env:PG_ADDRESS"),
        ] {
            let address = address(text);
            assert_eq!(address.to_string(), shown);
            assert_eq!(serde_json::to_value(&address).unwrap(), shown);
            assert_eq!(format!("{address:?}"), format!("\"{shown}\""));
            assert_eq!(address.with_password(), text);
        }
    }

    #[test]
    fn what_is_no_store_is_refused() {
        for text in ["", "disk", "env:", "env:A B", "mysql://host/db", "host=localhost dbname=x"] {
            assert!(StoreAddress::try_from(text.to_owned()).unwrap_err().contains("expected `memory`"), "{text}");
        }
        let error = StoreAddress::try_from("postgres://host/db?password=x".to_owned()).unwrap_err();
        assert!(error.contains("PGPASSWORD"), "{error}");
    }
}
