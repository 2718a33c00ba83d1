"""White papers: a row in the database and a file in the uploads volume, which belong together."""

import hashlib
import os

from flask import Blueprint, abort, jsonify, render_template, request, send_from_directory
from werkzeug.utils import secure_filename

from . import db

blueprint = Blueprint("papers", __name__)
UPLOADS = os.environ.get("UPLOADS", "/srv/uploads")


def newest(count):
    return db.rows(
        "SELECT id, title, size, published_at FROM white_papers ORDER BY published_at DESC, id DESC LIMIT %s",
        (count,),
    )


@blueprint.get("/papers")
def listing():
    return render_template("papers.html", papers=newest(500))


@blueprint.get("/fragments/latest-papers")
def fragment():
    """Included by the web server into static pages."""
    return render_template("latest.html", papers=newest(3))


@blueprint.get("/api/papers")
def api_listing():
    papers = newest(500)
    return jsonify(count=len(papers), papers=papers)


@blueprint.get("/papers/<int:paper>")
def download(paper):
    found = db.rows("SELECT file, media_type FROM white_papers WHERE id = %s", (paper,))
    if not found:
        abort(404)
    return send_from_directory(UPLOADS, found[0]["file"], mimetype=found[0]["media_type"])


@blueprint.post("/papers")
def upload():
    title = request.form.get("title", "").strip()
    sent = next(iter(request.files.values()), None)
    if not title or sent is None or not secure_filename(sent.filename or ""):
        return jsonify(error="a title and a file are needed"), 400
    content = sent.read()
    if not content:
        return jsonify(error="the file is empty"), 400

    connection = db.connection()
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('white_papers', 'id'))")
        (number,) = cursor.fetchone()
        name = f"papers/{number:05}-{secure_filename(sent.filename)}"
        cursor.execute(
            "INSERT INTO white_papers (id, title, file, media_type, size, sha256, published_at)"
            " VALUES (%s, %s, %s, %s, %s, %s, now())",
            (
                number,
                title,
                name,
                sent.mimetype or "application/octet-stream",
                len(content),
                hashlib.sha256(content).hexdigest(),
            ),
        )
        # Inside the transaction: a file that cannot be written leaves no row behind.
        target = os.path.join(UPLOADS, name)
        with open(target + ".part", "xb") as file:
            file.write(content)
        os.rename(target + ".part", target)
    return jsonify(id=number, title=title, size=len(content)), 201, {"Location": f"/papers/{number}"}
