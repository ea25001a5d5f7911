//! The HTTP client for a running server.
//!
//! Invariant: every error names the server's address and, if the server did not answer, advises what to do.

use anyhow::{Context, Result, anyhow, bail};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;
use thalweg_schemas::api::error::{ErrorCode, Refusal};
use thalweg_schemas::error::innermost;
use thalweg_schemas::reference::look_up;

use crate::flags::{ServerFlags, Usage};

/// A client of one server.
#[derive(Clone)]
pub(crate) struct Client {
    url: Url,
    http: reqwest::Client,
    token: Option<String>,
}

/// The server's refusal of a request.
#[derive(Debug)]
pub(crate) struct Refused {
    /// The kind of the error.
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
    /// Line and column in the SQL, from 1.
    pub(crate) place: Option<(usize, usize)>,
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

impl Client {
    /// Errors: [`Usage`] if the address is not an HTTP URL, or the token cannot be looked up.
    pub(crate) fn new(flags: &ServerFlags) -> Result<Self> {
        let url = Url::parse(&flags.url).ok().filter(|url| url.scheme() == "http" && url.has_host());
        let Some(url) = url else {
            let advice = "write http://HOST:PORT, as `thalweg up` prints it";
            return Err(Usage(format!("--url: `{}` is not an address; {advice}", flags.url)).into());
        };
        let http = reqwest::Client::builder().no_proxy().build()?;
        let token = flags.token.as_deref().filter(|token| !token.is_empty());
        let token = token.map(look_up).transpose().map_err(|reason| Usage(format!("--token: {reason}")))?;
        Ok(Self { url, http, token })
    }

    /// The token that requests carry.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder> {
        let request = self.http.request(method, self.url.join(path)?);
        Ok(match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        })
    }

    /// Sends the request.
    ///
    /// Errors: [`Refused`] for an error answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response> {
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
                    ErrorCode::Unauthorized => format!("{}; here it is --token TOKEN, or THALWEG_TOKEN", error.message),
                    _ => error.message,
                };
                Err(Refused { code: error.code, message, place }.into())
            }
            Err(_) => bail!("{} answered {status}: {}", self.url, body.trim()),
        }
    }

    /// Returns the JSON answer of a GET request to `path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.send(self.request(Method::GET, path)?).await?;
        self.json(response).await
    }

    pub(crate) async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T> {
        let broke_off = || format!("the answer of {} broke off", self.url);
        self.shape(response.json().await.with_context(broke_off)?)
    }

    /// Converts an answer to the type that this version expects.
    pub(crate) fn shape<T: DeserializeOwned>(&self, answer: Value) -> Result<T> {
        serde_json::from_value(answer).with_context(|| format!("{} runs another version of thalweg", self.url))
    }

    /// Returns the error of an unreachable server; the innermost cause is the most precise one.
    fn silence(&self, error: &reqwest::Error) -> anyhow::Error {
        let cause = innermost(error);
        anyhow!("no answer from {} ({cause}); start `thalweg up`, or say with --url where it runs", self.url)
    }
}
