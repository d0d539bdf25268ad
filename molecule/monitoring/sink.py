# Copyright (c) 2026 The UGRO developers
# SPDX-License-Identifier: Apache-2.0
"""Take what Alertmanager posts on port 9999 and keep it as lines of JSON: `sink.py FILE`. For a host of the lab."""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with Path(sys.argv[1]).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"authorization": self.headers["Authorization"], "body": body}) + "\n")
        self.send_response(200)
        self.end_headers()


HTTPServer(("127.0.0.1", 9999), Handler).serve_forever()
