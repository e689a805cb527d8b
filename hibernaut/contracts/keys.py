"""Keys in the object store."""


class StoreKeys:
    """Keys in the object store. Every key of an agent lies under a prefix that bears its uid."""

    @staticmethod
    def segment(uid: str, branch: int, step: int, ordinal: int) -> str:
        """A transcript segment: new items and the reply of one model call."""
        return f"agents/{uid}/transcript/b{branch:04d}/s{step:08d}-o{ordinal:04d}.json"

    @staticmethod
    def compaction(uid: str, branch: int, step: int, ordinal: int) -> str:
        """What takes the place of the older part of the conversation from this model call on."""
        return f"agents/{uid}/compactions/b{branch:04d}/s{step:08d}-o{ordinal:04d}.json"

    @staticmethod
    def message(uid: str, digest: str) -> str:
        """A text too long for the history, under the digest of its message id."""
        return f"agents/{uid}/messages/{digest}.txt"

    @staticmethod
    def events(uid: str, first: int) -> str:
        """A segment of the event log, under the sequence number of its first event."""
        return f"agents/{uid}/events/{first:010d}.json"

    @staticmethod
    def exec_record(uid: str, exec_prefix: str) -> str:
        """What became of one tool call, with the output the model was shown."""
        return f"agents/{uid}/exec/{exec_prefix}.json"

    @staticmethod
    def exec_chunk(uid: str, exec_id: str, stream: str, offset: int) -> str:
        """A piece of one command's stdout or stderr, under its first byte's offset; written as the output grows."""
        return f"{StoreKeys.exec_chunks(uid, exec_id, stream)}{offset:015d}"

    @staticmethod
    def exec_chunks(uid: str, exec_id: str, stream: str) -> str:
        """The prefix of all pieces of one command's stdout or stderr; in key order they are the whole."""
        return f"agents/{uid}/exec/{exec_id}.{stream}/"

    @staticmethod
    def head(uid: str) -> str:
        """The agent's newest snapshot and the generation that may write the next: changed by compare-and-swap alone."""
        return f"agents/{uid}/head.json"

    @staticmethod
    def host(host_id: str) -> str:
        """What a sandbox host says of itself while its worker runs."""
        return f"{StoreKeys.hosts()}{host_id}.json"

    @staticmethod
    def hosts() -> str:
        """The prefix of all hosts."""
        return "hosts/"

    @staticmethod
    def audit(day: str, name: str) -> str:
        """A file of audit lines (JSON, one a line) of one day (`2026-01-31`)."""
        return f"audit/{day}/{name}.jsonl"

    @staticmethod
    def image(image_id: str, part: str) -> str:
        """A part of a base image, kept once for all agents under the digest of its id."""
        return f"images/{image_id.removeprefix('sha256:')}/{part}"

    @staticmethod
    def upload(uid: str, upload_id: str) -> str:
        """Bytes on their way into a sandbox."""
        return f"agents/{uid}/uploads/{upload_id}"

    @staticmethod
    def artifacts(uid: str) -> str:
        """The prefix of what an agent published: a folder for each."""
        return f"agents/{uid}/artifacts/"

    @staticmethod
    def artifact(uid: str, artifact_id: str) -> str:
        """An artifact's bytes."""
        return f"{StoreKeys.artifacts(uid)}{artifact_id}/content"

    @staticmethod
    def artifact_info(uid: str, artifact_id: str) -> str:
        """What is known of an artifact; written when its bytes are whole."""
        return f"{StoreKeys.artifacts(uid)}{artifact_id}/info.json"

    @staticmethod
    def agent(uid: str) -> str:
        """The prefix of everything an agent has, its snapshots included."""
        return f"agents/{uid}/"

    @staticmethod
    def certificate(uid: str) -> str:
        """The certificate of an agent's deletion."""
        return f"certificates/{uid}.json"

    @staticmethod
    def certificate_draft(uid: str) -> str:
        """What a deletion counted before it deleted anything; gone when the certificate is there."""
        return f"certificates/{uid}.begun.json"

    @staticmethod
    def certificates_of(agent_id: str) -> str:
        """The prefix of the uids of deleted agents that had an id."""
        return f"certificates/ids/{agent_id}/"
