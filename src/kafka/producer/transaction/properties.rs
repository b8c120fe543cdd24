//! The properties of a producer with transactions.

use crate::config::Properties;
use crate::support::error::{Error, Result};

/// The default of CONFIGURATION.md.
const DEFAULT_TRANSACTION_TIMEOUT_MS: u64 = 60_000;
/// An event that is not delivered fails this much before the coordinator aborts its transaction, so
/// that the program learns the reason.
const MARGIN_MS: u64 = 10_000;

/// Adds the transactional id, and a delivery timeout that fits the transaction's timeout.
pub fn add_transactional_id(properties: &mut Properties, id: &str) -> Result<()> {
    const DELIVERY: &str = "delivery.timeout.ms";
    const TRANSACTION: &str = "transaction.timeout.ms";
    properties.set("transactional.id", id);
    let transaction = match properties.get(TRANSACTION) {
        None => DEFAULT_TRANSACTION_TIMEOUT_MS,
        // librdkafka rejects anything but a number.
        Some(given) => given.parse().unwrap_or(DEFAULT_TRANSACTION_TIMEOUT_MS),
    };
    match properties.get(DELIVERY) {
        None => properties.set(DELIVERY, (transaction - (transaction / 2).min(MARGIN_MS)).to_string()),
        // 0 is no limit.
        Some(given) if given.parse().is_ok_and(|given: u64| given == 0 || given >= transaction) => {
            let expected = format_args!(
                "{given} must be less than kafka.{TRANSACTION}, which is {transaction}: the coordinator aborts a \
                 transaction after that time"
            );
            return Err(Error::configuration(format_args!("kafka.{DELIVERY}"), expected));
        }
        Some(_) => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_fail_before_the_transaction_is_aborted() {
        let cases = [(None, "50000"), (Some("60000"), "50000"), (Some("15000"), "7500"), (Some("1000"), "500")];
        for (transaction, delivery) in cases {
            let mut properties = Properties::default();
            transaction.into_iter().for_each(|timeout| properties.set("transaction.timeout.ms", timeout));
            add_transactional_id(&mut properties, "id").unwrap();
            assert_eq!(properties.get("delivery.timeout.ms"), Some(delivery), "{transaction:?}");
        }
    }
}
