//! Functions that cancel queries: `thalweg_cancel(id)` by the id of a query, `pg_cancel_backend(id)` by that of a
//! session, as PostgreSQL's clients call it.
//!
//! Invariant: who may not change anything cancels only what its own session asks for.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{ColumnarValue, ScalarUDF, Volatility, create_udf};

use crate::Error;
use crate::activity::Activity;
use crate::options::Options;

/// The functions for the client of a request with `options`.
pub(crate) fn functions(activity: &Arc<Activity>, options: &Options) -> [ScalarUDF; 2] {
    let (own, denied) = (options.client.session, options.definitions);
    let by_query = {
        let activity = Arc::clone(activity);
        move |id: u64| {
            let session = activity.running().iter().find(|query| query.id == id).map(|query| query.client.session);
            match (session, denied) {
                (None, _) => Ok(false),
                (Some(session), Some(denied)) if session.is_none() || session != own => Err(Error::Deny(denied)),
                (Some(_), _) => Ok(activity.cancel_query(id)),
            }
        }
    };
    let by_session = {
        let activity = Arc::clone(activity);
        move |id: u64| match denied {
            Some(denied) if own != Some(id) => Err(Error::Deny(denied)),
            _ => Ok(activity.cancel_session(id)),
        }
    };
    [function("thalweg_cancel", by_query), function("pg_cancel_backend", by_session)]
}

fn function(name: &str, cancel: impl Fn(u64) -> std::result::Result<bool, Error> + Send + Sync + 'static) -> ScalarUDF {
    let run = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let ids = arrays[0].as_primitive::<Int64Type>();
        let one = |id: Option<i64>| match id.map(u64::try_from) {
            None => Ok(None),
            Some(Err(_)) => Ok(Some(false)),
            Some(Ok(id)) => cancel(id).map(Some).map_err(|error| DataFusionError::External(Box::new(error))),
        };
        let done = ids.iter().map(one).collect::<Result<BooleanArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(done) as ArrayRef))
    };
    create_udf(name, vec![DataType::Int64], DataType::Boolean, Volatility::Volatile, Arc::new(run))
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::SessionContext;

    use super::*;
    use crate::access::AccessDenied;
    use crate::activity::{Protocol, RequestClient};

    async fn answer(activity: &Arc<Activity>, options: &Options, sql: &str) -> Result<Option<bool>> {
        let context = SessionContext::new();
        for function in functions(activity, options) {
            context.register_udf(function);
        }
        let batches = context.sql(sql).await?.collect().await?;
        let column = batches[0].column(0).as_boolean().clone();
        Ok(column.iter().next().flatten())
    }

    #[tokio::test]
    async fn a_query_is_cancelled_by_whom_it_concerns() {
        let activity = Arc::new(Activity::default());
        let of_session = |session| RequestClient { protocol: Protocol::Postgres, session };
        let reader = |session| Options {
            definitions: Some(AccessDenied::NotAdmin),
            client: of_session(session),
            ..Options::default()
        };
        let listed = activity.begin_query("SELECT 1", of_session(Some(7)));
        let id = activity.running()[0].id;
        let by_id = format!("SELECT thalweg_cancel({id})");
        assert!(answer(&activity, &reader(Some(8)), &by_id).await.is_err());
        assert!(answer(&activity, &reader(None), &by_id).await.is_err());
        assert!(answer(&activity, &reader(Some(8)), "SELECT pg_cancel_backend(7)").await.is_err());
        assert_eq!(answer(&activity, &reader(Some(7)), &by_id).await.unwrap(), Some(true));
        assert_eq!(answer(&activity, &reader(Some(7)), "SELECT pg_cancel_backend(7)").await.unwrap(), Some(true));
        let admin = Options::default();
        assert_eq!(answer(&activity, &admin, "SELECT pg_cancel_backend(7)").await.unwrap(), Some(true));
        listed.cancelled().await;
        for (sql, expect) in [
            ("SELECT thalweg_cancel(999999)", Some(false)),
            ("SELECT thalweg_cancel(-1)", Some(false)),
            ("SELECT thalweg_cancel(NULL)", None),
            ("SELECT pg_cancel_backend(8)", Some(false)),
        ] {
            assert_eq!(answer(&activity, &admin, sql).await.unwrap(), expect, "{sql}");
        }
    }
}
