"""The few lines with which a container of any image with Python becomes a worker.

`SOURCE` is the argument of ``python -c``. It fetches the worker's zip from the dispatcher over TLS,
checks it against the digest in the Pod, and runs it. It must be plain Python of any version from
3.9 on, so that an older one can say that it is too old.
"""

SOURCE = """\
import os, sys, time
if sys.version_info < (3, 9):
    sys.exit("shoal: the image has Python %d.%d; a worker needs 3.9" % sys.version_info[:2])
import hashlib, socket, ssl
from urllib.parse import urlsplit
url = urlsplit(os.environ["SHOAL_DISPATCHER"])
context = ssl.create_default_context(cadata=os.environ["SHOAL_CA"])
path = os.path.join(os.environ["SHOAL_SCRATCH"], "worker.zip")
def fetch():
    with socket.create_connection((url.hostname, url.port), 10) as plain:
        with context.wrap_socket(plain, server_hostname=os.environ["SHOAL_SERVER_NAME"]) as line:
            line.sendall(b"GET /v1/worker.zip HTTP/1.0\\r\\nHost: shoal\\r\\n\\r\\n")
            return b"".join(iter(lambda: line.recv(1 << 18), b"")).partition(b"\\r\\n\\r\\n")[2]
wrong = 0
for attempt in range(600):
    try:
        data = fetch()
        if hashlib.sha256(data).hexdigest() == os.environ["SHOAL_WORKER_SHA256"]:
            break
        trouble, wrong = "it serves the worker of another version than this Pod's", wrong + 1
        if wrong == 5:
            sys.exit("shoal: %s: another Pod is made" % trouble)
    except OSError as error:
        trouble = "%s: %s" % (type(error).__name__, error)
    if attempt % 20 == 0:
        print("shoal: the dispatcher at %s does not answer: %s" % (url.netloc, trouble), flush=True)
    time.sleep(min(0.05 * 2 ** min(attempt, 5), 1.0))
else:
    sys.exit("shoal: no worker from the dispatcher: " + trouble)
with open(path, "wb") as file:
    file.write(data)
os.environ["SHOAL_LIBRARY"] = path + "/lib"
sys.path.insert(0, path)
from _shoal_worker.agent import main
sys.exit(main())
"""
