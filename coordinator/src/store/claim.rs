//! Whose store it is: one coordinator serves it, and each that takes it over has a higher epoch than all before.
//!
//! The epoch is a row of the database. Whoever writes looks at it within the same transaction and keeps it as it is until that
//! ends, so nothing is written under an epoch that is over.

use super::StoreError;
use super::database::Connection;
use super::session::unix_us;
use std::io::Read;

/// What a store knows of itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Claim {
    /// 0 for whoever took nothing over.
    pub epoch: i64,
    pub secret: [u8; 32],
}

/// Takes the store over in the name of a coordinator.
pub(super) async fn take_over(
    connection: &mut Connection,
    name: &str,
) -> Result<Claim, StoreError> {
    let secret = secret(connection).await?;
    let row = connection
        .fetch_one(
            "UPDATE coordinator SET epoch = epoch + 1, name = $1, since_unix_us = $2 RETURNING epoch",
            &[name.into(), unix_us().into()],
        )
        .await?;
    let epoch = row.get(0)?;
    Ok(Claim { epoch, secret })
}

/// The store's secret, which whoever comes first makes.
pub(super) async fn secret(connection: &mut Connection) -> Result<[u8; 32], StoreError> {
    const QUERY: &str = "SELECT secret FROM coordinator";
    let found = match connection.fetch_optional(QUERY, &[]).await? {
        Some(row) => row,
        None => {
            let random = random().map_err(sqlx::Error::Io)?;
            connection
                .execute(
                    "INSERT INTO coordinator (id, epoch, name, since_unix_us, secret) VALUES (1, 0, '', $1, $2)
                     ON CONFLICT DO NOTHING",
                    &[unix_us().into(), random.as_slice().into()],
                )
                .await?;
            connection.fetch_one(QUERY, &[]).await?
        }
    };
    let stored: &[u8] = found.get(0)?;
    let wrong = |_| sqlx::Error::Decode("the store's secret has not 32 bytes".into());
    Ok(stored.try_into().map_err(wrong)?)
}

fn random() -> std::io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// An error if another coordinator than that of this epoch has the store. `hold` keeps it so until the transaction ends.
pub(super) async fn check(
    connection: &mut Connection,
    epoch: i64,
    hold: bool,
) -> Result<(), StoreError> {
    let sql = match hold && connection.is_remote() {
        true => "SELECT epoch, name FROM coordinator FOR SHARE",
        false => "SELECT epoch, name FROM coordinator",
    };
    let row = connection.fetch_one(sql, &[]).await?;
    if row.get::<i64>(0)? == epoch {
        return Ok(());
    }
    Err(StoreError::Superseded { by: row.get(1)? })
}
