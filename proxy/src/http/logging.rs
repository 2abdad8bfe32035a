//! The request is over.

use super::context::Context;

/// Records the request, unless that was done. If its future was dropped, its flight may know why.
pub(super) fn record(ctx: &mut Context) {
    let Context { record, scope, shared, .. } = ctx;
    record.finish(scope.controls.ended(), &shared.access_log, scope.connection.client);
    if record.is_taken_back() {
        scope.controls.take_back();
    }
}
