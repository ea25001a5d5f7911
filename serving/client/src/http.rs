//! The HTTP client for a running server.
//!
//! Invariant: every error names the server's address and, if the server did not answer, advises what to do.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thalweg_schemas::api::error::{ErrorCode, Refusal};
use thalweg_schemas::error::innermost;

/// Time for a connection; a host that drops packets would never refuse one.
const CONNECT: Duration = Duration::from_secs(5);
/// Pause after which a silent server is asked whether it is still there. A query or an audit may take longer.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    url: Url,
    http: reqwest::Client,
    token: Option<String>,
}

/// The server's refusal of a request.
#[derive(Debug)]
pub struct Refused {
    /// The kind of the error.
    pub code: ErrorCode,
    pub message: String,
    /// Line and column in the SQL, from 1.
    pub place: Option<(usize, usize)>,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        match self.place {
            Some((line, column)) => write!(f, " (line {line}, column {column})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

/// The text does not name a server.
#[derive(Debug)]
pub struct NotAnAddress(String);

impl std::fmt::Display for NotAnAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` is not an address; write http://HOST:PORT, as `thalweg up` prints it", self.0)
    }
}

impl std::error::Error for NotAnAddress {}

impl Client {
    /// A client of the server at `url`; requests carry `token`.
    ///
    /// Errors: [`NotAnAddress`] if `url` is not an HTTP URL.
    pub fn new(url: &str, token: Option<String>) -> Result<Self> {
        let parsed = Url::parse(url).ok().filter(|url| url.scheme() == "http" && url.has_host());
        let url = parsed.ok_or_else(|| NotAnAddress(url.to_owned()))?;
        let http = reqwest::Client::builder().no_proxy().connect_timeout(CONNECT).tcp_keepalive(KEEPALIVE).build()?;
        Ok(Self { url, http, token })
    }

    pub fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let request = self.http.request(method, self.url.join(path)?);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Sends the request.
    ///
    /// Errors: [`Refused`] for an error answer.
    pub async fn send(&self, request: RequestBuilder) -> Result<Response> {
        let response = request.send().await.map_err(|e| self.silence(&e))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default();
        match serde_json::from_str::<Refusal>(&body) {
            Ok(Refusal { error }) => {
                let place = error.line.zip(error.column).map(|(line, column)| (line as usize, column as usize));
                let message = match error.code {
                    ErrorCode::Unauthorized => {
                        format!("{}; here it is THALWEG_TOKEN, or --token '${{file:/PATH}}'", error.message)
                    }
                    _ => error.message,
                };
                Err(Refused { code: error.code, message, place }.into())
            }
            Err(_) => bail!("{} answered {status}: {}", self.url, body.trim()),
        }
    }

    /// Returns the JSON answer of a GET request to `path`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        self.json(response).await
    }

    pub async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let broke_off = || format!("the answer of {} broke off", self.url);
        self.shape(response.json().await.with_context(broke_off)?)
    }

    /// Converts an answer to the type that this version expects.
    pub fn shape<T: DeserializeOwned>(&self, answer: Value) -> Result<T> {
        serde_json::from_value(answer).with_context(|| format!("{} runs another version of thalweg", self.url))
    }

    /// Returns the error of an unreachable server; the innermost cause is the most precise one.
    fn silence(&self, error: &reqwest::Error) -> anyhow::Error {
        let cause = innermost(error);
        anyhow!("no answer from {} ({cause}); start `thalweg up`, or say with --url where it runs", self.url)
    }
}
