"""What is private: names of files, and texts that hold passwords or keys; one list for all that leaves this computer.

Records, the states of the code that Git keeps, bundles and what is shared go by it. A key is told by the shape that its
maker publishes, and a password by the name that it is given; random characters alone are no sign, for hashes and data
look like that, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import translate
from typing import Any

HIDDEN = "***"
NAMES = (
    *(".env", ".env.*", "*.env", ".envrc", ".flaskenv", ".netrc", "_netrc", ".pypirc", ".npmrc", ".pgpass", ".my.cnf"),
    *(".git-credentials", ".htpasswd", ".vault-token", ".s3cfg", ".boto", ".Renviron", "rclone.conf", "config.local"),
    *("*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx", "*.ppk", "*.tfvars", "*.tfstate"),
    *("id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*", "kaggle.json", "token.txt", "hf_token*", "*api[_-]key*"),
    *("secret.*", "secrets.*", "*.secret", "*.secrets", "credentials*", "*[._-]credentials.*", "client_secret*"),
    *("*service[_-]account*.json", ".aws", ".ssh", ".gnupg", ".kube", ".azure", ".gcloud", ".docker/config.json"),
)
# judged by what is in them: code that is about secrets, and files that show what a private one is to look like
SHOWN = (".py", ".pyi", ".ipynb", ".md", ".rst", ".example", ".sample", ".template", ".dist")
_private = re.compile(r"(?:.*/)?(?:" + "|".join(translate(name.lower())[:-2] for name in NAMES) + r")(?:/.*)?")

WORDS = "token|key|secret|passw|signature|sig|credential|auth"  # any of which makes a variable or a parameter private
# what the name of a setting or variable ends with that is a secret; pad_token, sort_key and num_tokens are none
ENDS = (
    r"(?:passw(?:or)?ds?|passphrases?|secrets?|credentials?|authorization|api[_-]?keys?"
    r"|(?<![a-z])(?:pwd|(?:admin|db|ftp|mail|root|smtp|user)_pass"
    r"|(?:access|account|encryption|license|private|secret|signing|ssh|subscription)[_-]?keys?(?:_id)?"
    r"|(?:access|api|auth|bearer|deploy|gh|github|gitlab|hf|hub|huggingface|jwt|oauth|personal|private|push|pypi|refresh"
    r"|sas|secret|security|slack|wandb|zenodo)[_-]?tokens?))"
)
_BODY = r"(?:[^-]|-(?!----))"  # of a key, also in a patch
SHAPES = re.compile(
    rf"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?:{_BODY}++-----END [A-Z ]*-----"
    rf"|{_BODY}{{0,300}}?[A-Za-z0-9+/=]{{32}}{_BODY}*+)"
    r"|(?<![A-Za-z0-9])(?:gh[pousr]_\w{30,}|github_pat_\w{22,}|gl(?:pat|dt|rt|ptt|cbt)-[\w-]{20,}|hf_[A-Za-z0-9]{30,}"
    r"|A(?:KIA|SIA)[0-9A-Z]{16}(?![A-Za-z0-9])|AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}"
    r"|xox[abeoprs]-[\w-]{10,}|xapp-[\w-]{20,}|hooks\.slack\.com/services/[\w/]{20,}"
    r"|sk-(?=[\w-]{0,99}\d)(?:[a-z][a-z0-9]{0,15}-){0,4}\w{20,}|[rs]k_(?:live|test)_\w{16,}|SG\.[\w-]{16,99}\.[\w-]{16,}"
    r"|pypi-AgE[\w-]{30,}|npm_[A-Za-z0-9]{36}|dckr_pat_[\w-]{20,}|do[opr]_v1_[a-f0-9]{64}|dapi[a-f0-9]{32}"
    r"|r8_[A-Za-z0-9]{37}|gsk_[A-Za-z0-9]{40,}|\d{8,10}:AA[\w-]{33}|eyJ[\w-]{10,999}\.eyJ[\w-]{10,4000}\.[\w-]{10,}"
    r"|AGE-SECRET-KEY-1[0-9A-Z]{50,})|(?i:(?<=[?&])(?:sig|x-amz-signature|(?:access_)?token|api_?key)=[\w%.~+/-]{16,})"
)
# user and password of an address; the password may hold @ and /, but begins with no number that could be a port's
PASSWORD = re.compile(
    r"(?<=://)[\w.%+${}~-]{0,99}:(?!\d{1,5}(?:[/?#]|$))(?!(?:\$\w+|\$?\{[^{}]*\}+|%s|%\(\w+\)s)@)"
    r"(?P<value>[^\s'\"<>`|\\]{1,499})(?=@)"
)
LOGIN = re.compile(r"(?<=://)(?:(?!\$\{)[^/\s@'\"])+(?=@)")  # also without a password
QUERY = re.compile(rf"(?i)([?&][^=&#\s'\"]*(?:{WORDS})[^=&#\s'\"]*=)[^&#\s'\"]+")
QUOTED = re.compile(
    rf"(?i)(?P<before>{ENDS}(?:\\*[\"'])?\]?\s*[:=]\s*[bfru]?(?P<q>\\*[\"']))(?P<value>[^\"'\n\\]+)(?P=q)"
)
BARE = re.compile(rf"(?i)(?P<before>{ENDS}=)(?P<value>[^\s\"'(),;&{{}}\[\]]+)")
# of files that are no code: to the end of the line, or what is written below it
LINE = re.compile(
    rf"(?i)(?P<before>{ENDS}[\"']?[ \t]*[:=](?!=)[ \t]*)"
    r"(?P<value>[|>][-+\d]*[ \t]*(?:\n[-+ ]?[ \t]+[^\n]*)+|(?:\n[-+ ]?[ \t]*-[ \t]+[^\n]+)+|[^\"'\n][^\n]*)"
)
OVERRIDE = re.compile(r"[+~]*[\w./@:-]+=")
KEY = re.compile(rf"(?i).*{ENDS}")
OF_CODE = (".py", ".pyi", ".ipynb", ".md", ".rst", ".txt", ".html", ".tex", ".csv", ".svg", ".bib", ".js", ".css")
# what is no secret: what refers to one, unless it gives one in case that there is none, and what stands for one
REFERENCE = re.compile(
    r"\$?\{\{[^{}]*\}\}|\$\{(?!oc\.env:\s*\w+\s*,(?!\s*(?:null|''|\"\")?\s*\}))[^{}]*\}|\$\([^()]*\)|\$\w+|(?<!\$)\{[^{}]*\}"
    r"|<[^<>]*>|%\(?\w+\)?s?|%\w+%"
)
EMPTY = re.compile(
    r"(?i)\W*|(?:bearer|basic|token)\s*|null|none|true|false|str|inherit|not set|x{3,}|change.?me|\.\.\.|your\b.*"
    r"|string|example|dummy|secret|pass|my.?password|passw(?:or)?d|token|api.?key"
    r"|(?:~|\.{1,2})?/?(?:[\w.-]+/)*[\w-]+\.(?:json|ya?ml|toml|pem|key|txt)"
)
RESOLVED = re.compile(r"\$\{(?!hydra:)[\w.]+:[^{}]*(?:\$\{[^{}]*\}[^{}]*)*\}")
FROM_SECRET = re.compile(
    r"(?i)\$\{(?:oc\.decode:\s*\$\{)?oc\.env:\w*(?:token|key|secret|pass|passw\w*|pwd|pw|credential|auth)s?\s*[,}]"
)
PATCHED, BINARY = re.compile(r"(?ms)^diff --git ([^\n]*?)\"?\n.*?(?=^diff --git |\Z)"), "\nGIT binary patch\n"


def is_private(name: str) -> bool:
    """Whether a file of this path, from the project's folder, is private by its name."""
    return not name.lower().endswith(SHOWN) and bool(_private.fullmatch(name.lower()))


def why_private(name: str, content: bytes) -> str:
    """Say why a file is not for others; nothing where it is."""
    if is_private(name):
        return "private by its name"
    text = content.decode("utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8", "replace")
    return "it holds a password or a key" if "\0" not in text and redact_text(text, name) != text else ""


def written_out(value: Any, least: int = 1) -> bool:
    """Whether a secret's value is there itself, of `least` characters or more, and not what refers to it or is none."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return False
    text, before = re.sub(r"[ \t]#.*", "", str(value)).strip().strip("\"',"), ""
    while text != before:
        text, before = REFERENCE.sub("", text), text
    return len(text) >= least and not EMPTY.fullmatch(text)


def hide_logins(text: str, all_of_them: bool = False) -> str:
    """Replace passwords in addresses by ***; if all of them, users without one and secret parameters, too."""
    text = PASSWORD.sub(lambda found: found[0] if EMPTY.fullmatch(found["value"]) else HIDDEN, text)
    return QUERY.sub(rf"\1{HIDDEN}", LOGIN.sub(HIDDEN, text)) if all_of_them else text


def redact_text(text: str, name: str = "") -> str:
    """Replace passwords and keys by ***, in what a file of that name holds; in a patch, file by file."""
    if name.endswith(".patch"):  # of which what is no text stays as it is
        return PATCHED.sub(lambda found: found[0] if BINARY in found[0] else redact_text(found[0], found[1]), text)
    code = name.lower().endswith(OF_CODE)

    def hide(match: re.Match[str]) -> str:
        value, end = match["value"], match["q"] if "q" in match.re.groupindex else ""
        line = match.string[match.string.rfind("\n", 0, match.start()) + 1 : match.start()].lstrip("-+ ")
        prose = " " in value.strip() and (code or line.startswith("#"))
        return f"{match['before']}{HIDDEN}{end}" if not prose and written_out(value, 6 if code else 4) else match[0]

    text = QUOTED.sub(hide, SHAPES.sub(HIDDEN, hide_logins(text)))
    return text if code else LINE.sub(hide, text)


def redact(value: Any, settings: bool = False) -> Any:
    """Replace logins, passwords and keys by ***, in a text or in nested dicts and lists of texts.

    Of settings, the keys tell of secrets, too.
    """

    def hide(each: Any, key: str) -> Any:
        return HIDDEN if settings and is_secret(key) and written_out(each) else _redact(each)

    return _change(value, hide)


def _redact(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    word, _, given = value.partition("=")
    is_override = OVERRIDE.match(value)
    if is_override and is_secret(word) and written_out(given):
        return f"{word}={HIDDEN}"
    text = redact_text(value, "x.cfg" if is_override and "{" in value else "x.md")
    text = BARE.sub(lambda found: f"{found[1]}{HIDDEN}" if written_out(found[2], 4) else found[0], text)
    return hide_logins(text, all_of_them=True)


def _change(value: Any, change: Callable[[Any, str], Any], key: str = "") -> Any:
    """Change each value in nested dicts and lists, by a function that is given its dotted key, too."""
    if isinstance(value, dict):
        return {name: _change(each, change, f"{key}.{name}" if key else str(name)) for name, each in value.items()}
    return [_change(each, change, key) for each in value] if isinstance(value, list) else change(value, key)


def is_secret(key: str) -> bool:
    """Whether a setting of this dotted key is a secret, or a part of one."""
    return not key.rpartition(".")[2].startswith("_") and any(KEY.fullmatch(part) for part in key.split("."))


def secret_settings(settings: Any) -> list[str]:
    """List the settings, by their dotted keys, in which a password or a key is written out."""
    found: list[tuple[str, Any]] = []
    _change(settings, lambda value, key: found.append((key, value)))
    return [key for key, value in found if (is_secret(key) and written_out(value)) or SHAPES.search(str(value))]


def keep_references(value: Any, key: str = "") -> Any:
    """Escape what refers to a secret in settings that are about to be resolved, so that they go on referring to it."""

    def keep(found: re.Match[str], name: str) -> str:
        return found[0].replace("${", "\\${") if is_secret(name) or FROM_SECRET.match(found[0]) else found[0]

    def change(each: Any, name: str) -> Any:
        return RESOLVED.sub(lambda found: keep(found, name), each) if isinstance(each, str) else each

    return _change(value, change, key)
