"""pytest-cov, where a run has several slots: in each it works as in a worker of xdist, and once more as in its controller.

Owns where data lies meanwhile: in a directory of the process's own, then in what it leaves for the one that concludes, which may
run on another machine. With one slot pytest-cov is left alone. PYTEST_DONT_REWRITE
"""

import os
import shutil


def plugin(config):
    """pytest-cov's, if it measures."""
    found = config.pluginmanager.get_plugin("_cov")
    return None if found is None or found._disabled else found


def workerinput(config):
    """What pytest-cov's controller tells a worker. The host is nobody's: a worker then returns its data instead of leaving a
    file beside those of others, which it would combine with its own."""
    if plugin(config) is None:
        return {}
    return {"cov_master_host": "", "cov_master_topdir": os.getcwd(), "cov_master_rsync_roots": [str(config.rootpath)]}


def keep_apart(config, private):
    """Data of this process, and of those that tests start, go to `private`, which is removed at the end."""
    cov = plugin(config)
    if cov is None:
        return
    start = cov.start

    def start_apart(*arguments, **named):
        was = os.environ.get("COVERAGE_FILE")
        os.makedirs(private, exist_ok=True)
        os.environ["COVERAGE_FILE"] = os.path.join(private, ".coverage")
        try:
            start(*arguments, **named)
        finally:
            if was is None:
                del os.environ["COVERAGE_FILE"]
            else:
                os.environ["COVERAGE_FILE"] = was

    cov.start = start_apart
    config.add_cleanup(lambda: shutil.rmtree(private, ignore_errors=True))


def expect_workers(config):
    """Makes pytest-cov start as xdist's controller has it, in the process that concludes. Before its plugin is made."""
    config.known_args_namespace.numprocesses = 1


def take_back(config, output, number):
    """Puts a worker's data where the controller combines them, from what it returned. `number`: no other has the same."""
    cov = plugin(config)
    data = output.pop("cov_worker_data", None)
    if cov is None or data is None:
        return
    from coverage.data import CoverageData

    combining = cov.cov_controller.combining_cov
    CoverageData(combining.config.data_file, suffix=f"{output['cov_worker_node_id']}.{number}").loads(data)
    if output["cov_worker_path"] != cov.cov_controller.topdir:  # the same suite at another place
        places = combining.config.paths.setdefault("evenkeel", [cov.cov_controller.topdir])
        places.append(output["cov_worker_path"])
