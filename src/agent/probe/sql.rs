//! One SQL query over PostgreSQL's own protocol.

use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::error::DbError;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::agent::fault;
use crate::check::model::{Observation, SqlProbe, Unseen};

/// Bytes of values that a result may have.
const RESULT_LIMIT: usize = 16 << 20;
/// For telling the server to stop a query that took too long.
const FAREWELL: Duration = Duration::from_secs(1);

/// Connects and asks; the time is that of the query, the connecting not counted.
pub(super) async fn probe(probe: &SqlProbe) -> Result<(Observation, Duration), Unseen> {
    let deadline = Instant::now() + probe.timeout;
    let mut config = Config::new();
    config
        .host(&probe.service)
        .port(probe.port)
        .user(&probe.user)
        .dbname(&probe.database)
        .application_name("rehearse");
    if let Some(password) = &probe.password {
        config.password(password);
    }
    let at = format!("`{}:{}`", probe.service, probe.port);
    let cannot = format!("cannot connect to {at} as `{}`", probe.user);
    let (client, connection) = match timeout_at(deadline, config.connect(NoTls)).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(error)) => return Err(unseen(&cannot, &error)),
        Err(_) => {
            let reason = format!("{cannot}: {}", fault::timed_out(probe.timeout));
            return Err(Unseen::Unanswered(reason));
        }
    };
    // It ends with the client, and its errors are the client's.
    let connection = tokio::spawn(connection);
    let started = Instant::now();
    let seen = timeout_at(deadline, query(&client, &probe.query)).await;
    let elapsed = started.elapsed();
    let seen = match seen {
        Ok(seen) => seen.map(|observation| (observation, elapsed)),
        Err(_) => {
            // Else the server would go on with it, and hold its locks.
            let stop = client.cancel_token();
            let _ = timeout(FAREWELL, stop.cancel_query(NoTls)).await;
            Err(Unseen::Unanswered(fault::timed_out(probe.timeout)))
        }
    };
    drop(client);
    // Until the server has heard the goodbye: a session that lingers would stand in the way of a clean stop.
    let _ = timeout(FAREWELL, connection).await;
    seen
}

async fn query(client: &Client, query: &str) -> Result<Observation, Unseen> {
    let failed = |error: tokio_postgres::Error| unseen("the query failed", &error);
    let mut messages = Box::pin(client.simple_query_raw(query).await.map_err(failed)?);
    let mut columns = Vec::new();
    let mut rows = Vec::new();
    let mut bytes = 0;
    let mut statements = 0;
    while let Some(message) = messages.next().await {
        match message.map_err(failed)? {
            SimpleQueryMessage::RowDescription(described) => {
                columns = described
                    .iter()
                    .map(|column| column.name().to_owned())
                    .collect();
            }
            SimpleQueryMessage::Row(row) => {
                let row: Vec<Option<String>> = (0..row.len())
                    .map(|at| row.get(at).map(str::to_owned))
                    .collect();
                bytes += row
                    .iter()
                    .flatten()
                    .map(|value| value.len() + 24)
                    .sum::<usize>()
                    + 24;
                if bytes > RESULT_LIMIT {
                    return Err(Unseen::Undetermined(format!(
                        "the result is larger than {RESULT_LIMIT} bytes; let the query count or sum what it selects"
                    )));
                }
                rows.push(row);
            }
            SimpleQueryMessage::CommandComplete(_) => statements += 1,
            // The library may learn further messages; none of them carries rows.
            _ => {}
        }
    }
    match statements {
        0 | 1 => Ok(Observation::Sql { columns, rows }),
        many => Err(Unseen::Undetermined(format!(
            "the query is {many} statements; a test asks one"
        ))),
    }
}

fn unseen(what: &str, error: &tokio_postgres::Error) -> Unseen {
    match error.as_db_error() {
        Some(said) => Unseen::Unanswered(format!("{what}: {}", say(said))),
        None => fault::unseen(what, error),
    }
}

/// `ERROR 42P01: relation "x" does not exist; HINT: ...`
fn say(error: &DbError) -> String {
    let mut text = format!(
        "{} {}: {}",
        error.severity(),
        error.code().code(),
        error.message()
    );
    for (word, more) in [("DETAIL", error.detail()), ("HINT", error.hint())] {
        if let Some(more) = more {
            text.push_str(&format!("; {word}: {more}"));
        }
    }
    text
}
