"""Texts with a password or a key in them, in every form, and texts that look so and have none.

No secret here is one, and none stands here whole: scanners of repositories would find it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PLANTED = "Zq7xW2planted"  # and a number; every one of them is looked for
RANDOM = "aB3dE5fG7hJ9kL2mN4pQ6rS8tU1vW3xY5zA7bC9dE2fG4hJ6kL8mN1pQ3rS5tU7vW9xY2"

FILES = (
    *(".env", ".env.local", ".env.production", "prod.env", ".envrc", "deep/down/.env", ".netrc", "_netrc", ".pypirc"),
    *(
        ".npmrc",
        ".pgpass",
        ".git-credentials",
        ".htpasswd",
        ".s3cfg",
        "deploy.pem",
        "certs/server.key",
        "a.p12",
        "a.pfx",
    ),
    *("id_rsa", "id_ed25519", "id_ecdsa", "keys/id_rsa_work", "secrets.yaml", "Secrets.yaml", "configs/secrets.yml"),
    *(
        "secrets.toml",
        "secrets.json",
        "secret.txt",
        "credentials",
        "credentials.json",
        "Credentials.csv",
        "kaggle.json",
    ),
    *(".aws/credentials", ".aws/config", "home/.aws/credentials", ".ssh/config", ".gnupg/secring.gpg", ".kube/config"),
    *(
        ".docker/config.json",
        "client_secret_123.json",
        "service-account.json",
        "gcp_service_account-1.json",
        "token.txt",
    ),
    *(
        "hf_token",
        "my_api_key.txt",
        "openai-api-key",
        ".dvc/config.local",
        "terraform.tfstate",
        "rclone.conf",
        "x.kdbx",
    ),
)
SHAPES = {
    "GitHub": "ghp_" + RANDOM[:36],
    "GitHub, of an app": "ghs_" + RANDOM[:36],
    "GitHub, fine-grained": "github_pat_" + RANDOM[:22] + "_" + RANDOM[:59],
    "GitLab": "glpat-" + RANDOM[:20],
    "Hugging Face": "hf_" + "".join(each for each in RANDOM if each.isalpha())[:34],
    "AWS": "AKIA" + RANDOM.upper()[:16],
    "AWS, for a time": "ASIA" + RANDOM.upper()[:16],
    "Google": "AIza" + RANDOM[:35],
    "Slack": "xoxb-" + "123456789012-" + RANDOM[:24],
    "OpenAI": "sk-" + RANDOM[:48],
    "OpenAI, of a project": "sk-proj-" + RANDOM[:60],
    "Anthropic": "sk-ant-api03-" + RANDOM[:60],
    "Stripe": "sk_live_" + RANDOM[:24],
    "PyPI": "pypi-AgE" + RANDOM,
    "npm": "npm_" + RANDOM[:36],
    "Docker": "dckr_pat_" + RANDOM[:27],
    "JSON Web Token": "eyJ" + RANDOM[:20] + ".eyJ" + RANDOM[:30] + "." + RANDOM[:40],
    "a private key": "-----BEGIN RSA PRIVATE "
    + f"KEY-----\n{RANDOM[:64]}\n{RANDOM[:64]}\n-----END RSA PRIVATE KEY-----",
    "a short private key": "-----BEGIN PRIVATE " + f"KEY-----\n{RANDOM[:20]}\n-----END PRIVATE KEY-----",
    "a private key of SSH": "-----BEGIN OPENSSH PRIVATE " + f"KEY-----\n{RANDOM[:64]}\n",
    "a private key of PGP": "-----BEGIN PGP PRIVATE KEY "
    + f"BLOCK-----\n\n{RANDOM[:64]}\n-----END PGP PRIVATE KEY BLOCK-----",
}
HOLDERS = {  # how a file holds it
    "notes.txt": "the key is {}\n",
    "src/upload.py": 'send("{}")\n',
    "try.ipynb": '{{"cells": [{{"source": ["x = \\"{}\\"\\n"]}}]}}\n',
    "configs/other.yaml": "anything: {}\n",
}
P = "hunter2-" + PLANTED
ASSIGNED = {  # files in which a password is known by the name that it has
    "config.yaml": [
        "password: {}",
        "db:\n  password: '{}'",
        "hf_token: {} # mine",
        "api_keys:\n  - {}",
        "a: {{apiKey: {}}}",
    ],
    "block.yaml": ["client_secret: |\n  {}\n", "passphrase: >-\n    {}\n"],
    "setup.cfg": ["[a]\npassword = {}", "secret_key={}"],
    "x.toml": ['[tool]\naccess_token = "{}"', 'auth-token = "{}"'],
    "x.json": ['{{"password": "{}"}}', '{{"a": {{"aws_secret_access_key": "{}"}}}}'],
    "run.sh": ["export HF_TOKEN={}", "WANDB_API_KEY={} make train", "curl -H 'Authorization: Bearer {}'"],
    "Dockerfile": ["ENV DB_PASSWORD={}"],
    "code.py": ['password = "{}"', "login(api_key='{}')", 'os.environ["HF_TOKEN"] = "{}"', 'f(db_password="{}")'],
    "try.ipynb": ['{{"source": ["hf_token = \\"{}\\""]}}'],
    ".dvc/config": ["['remote \"r\"']\n    password = {}"],
    "README.md": ['Use `password="{}"`.'],
}
ADDRESSES = (
    *(
        "https://me:{}@h/x",
        "https://me:{}@h:8080/x?a=1",
        "https://me:p@ss{}@h/x",
        "https://me:p/w{}@h/x",
        "ftp://:{}@h/x",
    ),
    *(
        "https://me:{}/@h/x",
        "https://me:{}@@h/x",
        "https://me:a:{}@h",
        "postgresql+psycopg2://me:{}@h/db",
        "s3://k:{}@h",
    ),
    *(
        "mongodb+srv://me:{}@h/?a=b",
        "https://me:%40{}@h/x",
        "https://me:${}@h/x",
        "https://me:{}?@h/x",
        "ssh://me:{}@h/x",
    ),
    *(
        "https://me:#{}@h",
        "https://{}@h/x",
        "https://h/x?token={}",
        "https://h/x?a=1&sig={}",
        "see https://me:{}@h/x, or",
    ),
)
KEYS = (
    *("password", "db_password", "passwd", "passphrase", "api_key", "apiKey", "API_KEY", "openai_api_key", "hf_token"),
    *("access_token", "auth_token", "github_token", "secret", "client_secret", "aws_secret_access_key", "secret_key"),
    *(
        "private_key",
        "credentials",
        "Authorization",
        "wandb_api_key",
        "bearer_token",
        "access_key_id",
        "smtp_pass",
        "pwd",
    ),
)
PLACES: dict[str, Callable[[str, str], Any]] = {  # of a setting in nested ones
    "flat": lambda key, value: {"model": {key: value}},
    "deep": lambda key, value: {"logger": {"wandb": {"options": {key: value}}}},
    "in a list": lambda key, value: {"model": {"services": [{"name": "a"}, {key: value}]}},
    "a list of them": lambda key, value: {"model": {key: ["a" * 9, value]}},
    "a group of them": lambda key, value: {"model": {key: {"of_the_first": value}}},
}
WORDS = (
    *(
        "+x.api_key={}",
        "x.password={}",
        "++model.hf_token='{}'",
        "x.password=a,b,{}",
        "x.password=a b {}",
        "+x=[{{api_key: {}}}]",
    ),
    *("+x={{a: {{password: {}}}}}", "x.db_password=p@ss/w{}", "x.url=https://me:{}@h/x", "x.url='https://me:p/{}@h'"),
    *(
        "x.dsn=host=h password={} user=me",
        "~x.secret={}",
        "x@y.client_secret={}",
        "+x.headers={{Authorization: Bearer {}}}",
    ),
)
# what looks a little like a secret, and is none: runs with it keep their names, and files with it are kept
HONEST_SETTINGS: dict[str, Any] = {
    **{
        f"{name}_token": "<pad>"
        for name in ("pad", "eos", "mask", "cls", "unk", "user", "grid", "half", "robot", "image")
    },
    **{
        name: "image_path"
        for name in ("key", "sort_key", "label_key", "group_key", "primary_key", "public_key", "keys")
    },
    **{
        "num_tokens": 512,
        "max_tokens": 10,
        "token_dropout": 0.1,
        "key_dim": 64,
        "tokenizer": "bert-base",
        "sigma": 0.5,
    },
    **{"author": "Ada", "use_auth_token": True, "secret_sharing": "shamir", "password_length": 12, "signal": "ecg"},
    **{
        "address": "https://example.org:8080/a@b",
        "other": "https://example.org/a@b?page=2",
        "hash": "d41d8cd98f00b204" * 2,
    },
    **{
        "prompt": "Enter your password: then press return",
        "name": "task-sk-learn-feature-extraction-1",
        "git": "git@h:a/b",
    },
    **{
        "path": "./data/keys/list.txt",
        "mail": "ada@example.org",
        "nothing": None,
        "password": None,
        "api_key": "",
        "secret": False,
    },
}
HONEST_FILES = {
    "code.py": "def login(password: str, token: str | None = None) -> None:\n    api_key = os.environ['API_KEY']\n"
    '    f(password=password, api_key=settings.api_key, secret="***", token=tokenizer.pad_token)\n',
    "doc.py": '"""Log in.\n\nArgs:\n    password: of the user.\n    credentials: what the server asks for.\n"""\n',
    "secrets.py": "import secrets\n\nTOKEN = secrets.token_hex()\n",
    ".env.example": "HF_TOKEN=\nWANDB_API_KEY=your-key\n",
    "config.yaml": "password: ${oc.env:DB_PASSWORD}\nhf_token: null\npersist-credentials: false\nsecrets: inherit\n",
    "ci.yml": "env:\n  GITHUB_TOKEN: ${{ secrets.GITHUB_TOKEN }}\n",
    "run.sh": 'export HF_TOKEN=$(cat ~/.token)\nPASSWORD="$1"\nWANDB_API_KEY=<your key>\n',
    "doc.md": "Give `postgresql://user:password@host/db`, or https://${USER}:${PASSWORD}@host/x.\n",
    "page.html": '<div class="sk-toggleable__content fitted"><label class="sk-toggleable__label-arrow">\n',
    "data.csv": "id,token\n1,AKIA\n",
    "key.py": 'BEGIN = "-----BEGIN PRIVATE " + "KEY-----"\n',
    "weights.bin": "\0" + "password=" + RANDOM,
}
