from flask import Flask
from redis import Redis

app = Flask(__name__)
redis = Redis(host="redis", port=6379)


@app.route("/")
def hello():
    count = redis.incr("hits")
    return f"Hello from wharf! This page was seen {count} time{'s' if count > 1 else ''}.\n"
