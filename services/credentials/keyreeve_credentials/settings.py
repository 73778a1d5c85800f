"""The credentials service's settings; docs/settings.md is generated from the descriptions."""

from pathlib import Path

from pydantic import Field, SecretStr, model_validator

from keyreeve_chassis.settings.sections import ApiServerSettings, DatabaseServerSettings, DatabaseSettings, Section


class VaultSecretSettings(ApiServerSettings):
    """Key-encryption keys in Secrets of Kubernetes (docs/vault.md)."""

    namespace: str = Field(
        pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$",
        description="Namespace of the Secrets, which holds nothing else and belongs in no backup of the database.",
    )
    root_key_file: Path = Field(description="Mounted secret of 32 bytes, under which the Secrets are sealed.")


class VaultSettings(Section):
    """The key-encryption keys of the vault (docs/vault.md)."""

    keys_directory: Path | None = Field(
        None,
        description="Directory of the root key and the key-encryption keys, which replicas share; made in the state "
        "directory at the first start unless given. It belongs in no backup of the database.",
    )
    secrets: VaultSecretSettings | None = Field(
        None, description="Keep the key-encryption keys in Secrets of Kubernetes instead of a directory."
    )
    backup_days: int = Field(
        30,
        ge=0,
        le=3_650,
        description="Days for which backups of the database are kept: so long after a rotation its old key is kept, too.",
    )
    rekey_rows_per_second: float = Field(
        1_000, gt=0, description="Values that a rotation re-encrypts in a second, at most."
    )
    new_key_on_restart: bool = Field(
        default=False,
        description="Give an array a new key when the agent of one of its members has started again, at most once an hour: the "
        "default of arrays whose launch setting `new_key_on_restart` is not set; needs `membership_address`.",
    )
    membership_address: str | None = Field(
        None,
        description="`host:port` of the membership service, whose reports tell of restarts; without it no array's "
        "`new_key_on_restart` can be turned on.",
    )
    scrub_hours: float = Field(24, gt=0, description="Hours between two comparisons of all entries with the audit log.")
    reads_per_second: float = Field(200, gt=0, description="Secrets that one caller may read in a second, for long.")
    reads_at_once: int = Field(2_000, ge=1, description="And after a pause.")
    unusual_owners: int = Field(
        200,
        ge=1,
        description="Different owners whose secrets one caller reads in a minute, above which an alarm is raised.",
    )

    @model_validator(mode="after")
    def _check_together(self) -> "VaultSettings":
        if self.new_key_on_restart and self.membership_address is None:
            raise ValueError("new_key_on_restart needs membership_address")
        if self.secrets is not None and self.keys_directory is not None:
            raise ValueError("keys_directory and secrets exclude each other")
        return self


class CredentialsSettings(DatabaseServerSettings):
    """All settings."""

    state_directory: Path = Field(
        Path("credentials"), description="Directory of mode 0700 for keys, sockets and the SQLite file."
    )
    database: DatabaseSettings = Field(
        default_factory=lambda: DatabaseSettings(url=SecretStr("sqlite:///credentials.db")), description="The database."
    )
    vault: VaultSettings = Field(default_factory=VaultSettings, description="The vault.")

    @property
    def vault_keys_directory(self) -> Path:
        """The directory of the root key and the key-encryption keys."""
        return self.vault.keys_directory or self.state_directory / "vault-keys"
