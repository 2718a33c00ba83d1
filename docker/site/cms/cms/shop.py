"""What the shop's partners read."""

from flask import Blueprint, abort, jsonify

from . import db

blueprint = Blueprint("shop", __name__)


@blueprint.get("/api/orders/summary")
def summary():
    (found,) = db.rows("SELECT count(*) AS orders, coalesce(sum(total), 0)::text AS total FROM order_totals")
    return jsonify(found)


@blueprint.get("/api/orders/<int:order>")
def order(order):
    found = db.rows(
        "SELECT id, customer, placed_on::text, total::text, lines FROM order_totals WHERE id = %s", (order,)
    )
    if not found:
        abort(404)
    return jsonify(found[0])
