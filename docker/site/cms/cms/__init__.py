"""The company website's back end."""

import psycopg2
from flask import Flask, jsonify

from . import db, pages, papers, shop
from .version import VERSION

app = Flask(__name__)
app.config["MAX_CONTENT_LENGTH"] = 20 * 1024 * 1024
app.teardown_request(db.release)
app.register_blueprint(pages.blueprint)
app.register_blueprint(papers.blueprint)
app.register_blueprint(shop.blueprint)


@app.get("/healthz")
def healthz():
    """Healthy only when the tables it lives on can be read: an empty database is not a site."""
    db.rows("SELECT (SELECT count(*) FROM pages LIMIT 1), (SELECT 1 FROM white_papers LIMIT 1)")
    return jsonify(status="ok", version=VERSION)


@app.get("/api/version")
def version():
    return jsonify(version=VERSION)


@app.errorhandler(psycopg2.Error)
def database_failed(error):
    app.logger.error("database: %s", str(error).strip())
    return jsonify(error="the database does not answer as it should"), 503
