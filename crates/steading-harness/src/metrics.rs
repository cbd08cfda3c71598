//! Queries to the Prometheus of a testnet.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::{Context as _, bail};
use camino::Utf8PathBuf;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::http::{HttpClient, Method};
use crate::vm::Vm;

/// Where Prometheus listens.
const PORT: u16 = 9090;

/// Where the metrics VM keeps its data.
const DATA: &str = "/var/lib/prometheus/testnet";

/// The Prometheus of a metrics VM.
#[derive(Clone)]
pub struct Metrics {
    vm: Vm,
    client: HttpClient,
    log_dir: Utf8PathBuf,
}

/// A value of one time series.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Sample {
    /// The labels of the time series. The label `vm` names the VM that it comes from.
    #[serde(rename = "metric")]
    pub labels: BTreeMap<String, String>,
    #[serde(rename = "value")]
    at: (f64, String),
}

impl Sample {
    /// Returns the value of a label, if there is one.
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    /// Returns the value, or NaN if it is not a number.
    pub fn value(&self) -> f64 {
        self.at.1.parse().unwrap_or(f64::NAN)
    }
}

/// What Prometheus answers (its HTTP API, version 1).
#[derive(Deserialize)]
struct QueryResponse<T> {
    data: Option<T>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    result_type: String,
    result: serde_json::Value,
}

#[derive(Deserialize)]
struct TsdbSnapshot {
    name: String,
}

impl Metrics {
    pub(crate) fn new(vm: Vm, client: HttpClient, log_dir: &str) -> Self {
        Self { vm, client, log_dir: log_dir.into() }
    }

    /// Runs a PromQL query, and returns its result now, an instant vector.
    ///
    /// # Errors
    ///
    /// When Prometheus does not respond, or the result is not a vector.
    pub fn query(&self, query: &str) -> anyhow::Result<Vec<Sample>> {
        let what = || format!("VM {}: querying Prometheus for {query:?}", self.vm.name());
        let form = format!("query={}", utf8_percent_encode(query, NON_ALPHANUMERIC));
        let vector: Vector = self.ask("query", &form).with_context(what)?;
        if vector.result_type != "vector" {
            bail!("{}: expected a vector, got a {}", what(), vector.result_type);
        }
        serde_json::from_value(vector.result).with_context(what)
    }

    /// Repeats a query until `is_good` accepts its result, and returns the result.
    ///
    /// # Errors
    ///
    /// When no result is accepted in time; the error shows the last one.
    pub fn wait_until(
        &self,
        query: &str,
        is_good: impl Fn(&[Sample]) -> bool,
    ) -> anyhow::Result<Vec<Sample>> {
        let what = format!("waiting for the result of {query:?}");
        let (began, limit) = (Instant::now(), self.vm.limit());
        let mut backoff = Backoff::new();
        loop {
            // Prometheus may be starting.
            let last = self.query(query);
            match last {
                Ok(samples) if is_good(&samples) => return Ok(samples),
                Err(error) if began.elapsed() >= limit => return Err(error.context(what)),
                Ok(samples) if began.elapsed() >= limit => {
                    bail!(
                        "VM {}: {what}: not within {limit:?}; the last result was {samples:?}",
                        self.vm.name()
                    )
                }
                Ok(_) | Err(_) => self.vm.pause_between(&what, &mut backoff)?,
            }
        }
    }

    /// Saves the collected metrics next to the logs of the run, as a tar archive of the data directory, which
    /// `prometheus --storage.tsdb.path` opens. Returns its path.
    ///
    /// # Errors
    ///
    /// When the snapshot or the copy fails.
    pub fn save(&self) -> anyhow::Result<Utf8PathBuf> {
        let snapshot: TsdbSnapshot = self
            .ask("admin/tsdb/snapshot", "")
            .with_context(|| format!("VM {}: taking a snapshot of its metrics", self.vm.name()))?;
        let directory = self.log_dir.join("metrics");
        fs_err::create_dir_all(&directory)?;
        let local = directory.join(format!("{}.tar.gz", self.vm.name()));
        let archive = "/var/tmp/metrics.tar.gz";
        let source = format!("{DATA}/snapshots/{}", snapshot.name);
        self.vm.succeed(&format!("tar -czf {archive} -C {source} . && rm -r {source}"))?;
        self.vm.copy_from(archive, &local)?;
        self.vm.succeed(&format!("rm {archive}"))?;
        Ok(local)
    }

    fn ask<T: DeserializeOwned>(&self, path: &str, form: &str) -> anyhow::Result<T> {
        let url = format!("http://[{}]:{PORT}/api/v1/{path}", self.vm.address());
        let request = self.client.request(Method::POST, url);
        let request = request.header("Content-Type", "application/x-www-form-urlencoded").body(form);
        let answer: QueryResponse<T> = request.send()?.json()?;
        match answer {
            QueryResponse { data: Some(data), .. } => Ok(data),
            QueryResponse { error, .. } => bail!("Prometheus reported: {}", error.unwrap_or_default()),
        }
    }
}
