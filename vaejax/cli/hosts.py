"""Several hosts that one command runs on."""

import dataclasses

from vaejax.errors import InputError
from vaejax.runtime import multihost
from vaejax.runtime.limits import check_count


@dataclasses.dataclass(frozen=True)
class Hosts:
    """Several hosts that work together.

    Args:
      distributed: work on several hosts; start the same command on all.
      coordinator: address:port of host 0, where JAX does not know it.
      hosts: number of hosts, where JAX cannot find it out.
      host: the number of this one, from 0, where JAX does not know it.
      heartbeat: seconds of silence after which a host is given up and all end.
    """

    distributed: bool = False
    coordinator: str | None = None
    hosts: int | None = None
    host: int | None = None
    heartbeat: int = 100

    def join(self) -> None:
        """Joins the others, where there are any.

        Raises:
          InputError: a number is out of range, or of hosts that there are not.
        """
        check_count("heartbeat", self.heartbeat, 1)
        told = self.coordinator, self.hosts, self.host
        if self.distributed:
            multihost.join(*told, self.heartbeat)
        elif told != (None, None, None):
            raise InputError("--coordinator, --hosts and --host need --distributed")
