"""Pages that editors keep in the database."""

from flask import Blueprint, abort, jsonify, render_template

from . import db

blueprint = Blueprint("pages", __name__)


@blueprint.get("/pages/<slug>")
def page(slug):
    found = db.rows("SELECT title, body FROM pages WHERE slug = %s AND published", (slug,))
    if not found:
        abort(404)
    return render_template("page.html", page=found[0])


@blueprint.get("/api/pages")
def listing():
    return jsonify(pages=db.rows("SELECT slug, title FROM pages WHERE published ORDER BY slug"))
