#!/usr/bin/env python3
"""Make noise_ikpsk0.json: the published vectors have no IKpsk0 handshake of one PSK.

An implementation of its own, over Python's `cryptography`: it first reproduces every published
SHA256 vector of the patterns it knows (IKpsk0+psk2, NKpsk0, IK among them), then runs IKpsk0 with
the keys of the published IKpsk0+psk2 vector.
"""
import hashlib
import hmac
import json
import pathlib
import re

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

HERE = pathlib.Path(__file__).resolve().parent
PATTERNS = {
    "N": ["<s", "e es"],
    "NK": ["<s", "e es", "e ee"],
    "IK": ["<s", "e es s ss", "e ee se"],
    "XK": ["<s", "e es", "e ee", "s se"],
    "XX": ["", "e", "e ee s es", "s se"],
    "IX": ["", "e s", "e ee se s es"],
    "KK": [">s <s", "e es ss", "e ee se"],
}


def public(secret):
    raw = serialization.Encoding.Raw, serialization.PublicFormat.Raw
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes(*raw)


def dh(secret, pub):
    private = X25519PrivateKey.from_private_bytes(secret)
    return private.exchange(X25519PublicKey.from_public_bytes(pub))


class Handshake:
    """Both sides at once: one transcript, since both must agree on it anyway."""

    def __init__(self, name, prologue, static, ephemeral, psks):
        base, modifiers = re.match(r"Noise_([A-Z]+)(.*?)_", name).groups()
        self.psks = list(psks)
        self.static, self.ephemeral = static, ephemeral
        self.tokens = [line.split() for line in PATTERNS[base]]
        places = [int(m[3:]) for m in modifiers.split("+") if m]
        self.psk_mode = bool(places)
        if 0 in places:
            self.tokens[1].insert(0, "psk")
        for place in places:
            if place > 0:
                self.tokens[place].append("psk")
        raw = name.encode()
        self.h = raw.ljust(32, b"\0") if len(raw) <= 32 else hashlib.sha256(raw).digest()
        self.ck, self.k, self.n = self.h, None, 0
        self.mix_hash(prologue)
        for pre in self.tokens.pop(0):
            self.mix_hash(public(static[0 if pre[0] == ">" else 1]))

    def mix_hash(self, data):
        self.h = hashlib.sha256(self.h + data).digest()

    def hkdf(self, ikm, count):
        temp = hmac.digest(self.ck, ikm, "sha256")
        out, last = [], b""
        for i in range(1, count + 1):
            last = hmac.digest(temp, last + bytes([i]), "sha256")
            out.append(last)
        return out

    def mix_key(self, ikm):
        self.ck, self.k = self.hkdf(ikm, 2)
        self.n = 0

    def encrypt(self, plain):
        if self.k is None:
            out = plain
        else:
            nonce = bytes(4) + self.n.to_bytes(8, "little")
            out = ChaCha20Poly1305(self.k).encrypt(nonce, plain, self.h)
            self.n += 1
        self.mix_hash(out)
        return out

    def message(self, writer, payload):
        out = b""
        for token in self.tokens.pop(0):
            if token == "e":
                pub = public(self.ephemeral[writer])
                out += pub
                self.mix_hash(pub)
                if self.psk_mode:
                    self.mix_key(pub)
            elif token == "s":
                out += self.encrypt(public(self.static[writer]))
            elif token == "psk":
                self.ck, mixed, key = self.hkdf(self.psks.pop(0), 3)
                self.mix_hash(mixed)
                self.k, self.n = key, 0
            else:
                side = {"e": self.ephemeral, "s": self.static}
                self.mix_key(dh(side[token[0]][0], public(side[token[1]][1])))
        return out + self.encrypt(payload)


def transcript(name, vector, psks, payloads):
    get = lambda key: bytes.fromhex(vector.get(key, ""))
    hs = Handshake(name, get("init_prologue"), [get("init_static"), get("resp_static")],
                   [get("init_ephemeral"), get("resp_ephemeral")], psks)
    out, writer = [], 0
    count = len(hs.tokens)
    for payload in payloads[:count]:
        out.append(hs.message(writer, payload).hex())
        writer ^= 1
    handshake_hash, keys, nonces = hs.h, hs.hkdf(b"", 2), [0, 0]
    for payload in payloads[count:]:
        side = writer if count > 1 else 0
        nonce = bytes(4) + nonces[side].to_bytes(8, "little")
        out.append(ChaCha20Poly1305(keys[side]).encrypt(nonce, payload, b"").hex())
        nonces[side] += 1
        writer ^= 1
    return out, handshake_hash.hex()


def main():
    published = json.loads((HERE / "noise_25519_chachapoly.json").read_text())["vectors"]
    model, checked = None, 0
    for vector in published:
        name = vector["protocol_name"]
        base = re.match(r"Noise_([A-Z]+1?)(.*?)_", name).group(1)
        if not name.endswith("SHA256") or base not in PATTERNS:
            continue
        psks = [bytes.fromhex(p) for p in vector.get("init_psks", [])]
        payloads = [bytes.fromhex(m["payload"]) for m in vector["messages"]]
        got, handshake_hash = transcript(name, vector, psks, payloads)
        assert got == [m["ciphertext"] for m in vector["messages"]], name
        assert vector.get("handshake_hash", handshake_hash) == handshake_hash, name
        checked += 1
        if "_IKpsk0+psk2_" in name:
            model = vector
    name = "Noise_IKpsk0_25519_ChaChaPoly_SHA256"
    psk = model["init_psks"][0]
    payloads = [bytes.fromhex(m["payload"]) for m in model["messages"]]
    got, handshake_hash = transcript(name, model, [bytes.fromhex(psk)], payloads)
    vector = {key: model[key] for key in model if key.endswith(("prologue", "static", "ephemeral"))}
    vector.update(protocol_name=name, init_psks=[psk], resp_psks=[psk],
                  handshake_hash=handshake_hash,
                  messages=[{"payload": p.hex(), "ciphertext": c} for p, c in zip(payloads, got)])
    (HERE / "noise_ikpsk0.json").write_text(json.dumps({"vectors": [vector]}, indent=1) + "\n")
    print(f"{checked} published vectors reproduced; noise_ikpsk0.json written")


main()
