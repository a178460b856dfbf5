//! Where a store is.

use sqlx::postgres::PgConnectOptions;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a coordinator keeps its ledgers: `sqlite:FILE` or `postgres://USER@HOST/DATABASE`. It never prints a password.
#[derive(Clone, PartialEq, Eq)]
pub enum StoreAddress {
    Sqlite(PathBuf),
    /// A whole URL, as it was given.
    Postgres(String),
}

/// What was written names no store. It is not repeated, since it may hold a password.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    #[error("this names no store; write sqlite:FILE or postgres://USER@HOST/DATABASE")]
    Unknown,
    #[error("a file must be named; write sqlite:FILE")]
    NoFile,
    #[error("the address cannot be read; write postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Url(#[source] sqlx::Error),
}

impl FromStr for StoreAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<StoreAddress, AddressError> {
        if let Some(file) = text.strip_prefix("sqlite:") {
            let file = file.strip_prefix("//").unwrap_or(file);
            return match file {
                "" => Err(AddressError::NoFile),
                file => Ok(StoreAddress::Sqlite(file.into())),
            };
        }
        if text.starts_with("postgres://") || text.starts_with("postgresql://") {
            PgConnectOptions::from_str(text).map_err(AddressError::Url)?;
            return Ok(StoreAddress::Postgres(text.to_owned()));
        }
        Err(AddressError::Unknown)
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = match self {
            StoreAddress::Sqlite(path) => return write!(f, "sqlite:{}", path.display()),
            StoreAddress::Postgres(url) => url,
        };
        // Of a URL only what is known not to be secret.
        let Ok(options) = PgConnectOptions::from_str(url) else {
            return f.write_str("postgres://");
        };
        let (user, port) = (options.get_username(), options.get_port());
        let database = options.get_database().unwrap_or(user);
        match options.get_socket() {
            Some(socket) => write!(
                f,
                "postgres://{user}@localhost:{port}/{database}?host={}",
                socket.display()
            ),
            None => write!(
                f,
                "postgres://{user}@{}:{port}/{database}",
                options.get_host()
            ),
        }
    }
}

impl fmt::Debug for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_shown_without_a_password() {
        let shown = |text: &str| {
            text.parse::<StoreAddress>()
                .map(|address| address.to_string())
        };
        assert_eq!(shown("sqlite:a b%20.db").unwrap(), "sqlite:a b%20.db");
        assert_eq!(shown("sqlite:///var/x.db").unwrap(), "sqlite:/var/x.db");
        assert_eq!(
            shown("postgres://ada:s3cret@db.example:5433/keel").unwrap(),
            "postgres://ada@db.example:5433/keel"
        );
        let hidden = shown("postgresql://ada@x/keel?password=s3cret&host=/run/pg").unwrap();
        assert_eq!(hidden, "postgres://ada@localhost:5432/keel?host=/run/pg");
        let address: StoreAddress = "postgres://ada:s3cret@x/keel".parse().unwrap();
        assert!(!format!("{address:?}").contains("s3cret"));
        for wrong in [
            "",
            "sqlite:",
            "mysql://x/y",
            "/var/x.db",
            "postgres://a:s3cret@x:port/",
        ] {
            let said = wrong.parse::<StoreAddress>().unwrap_err().to_string();
            assert!(
                said.contains("write ") && !said.contains("s3cret"),
                "{wrong}: {said}"
            );
        }
    }
}
