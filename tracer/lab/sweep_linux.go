package lab

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A run's lock is a file <id>.lock. Its first line is the holder, the lines after it are the processes that the run made,
// each as "pid start-time". The holder keeps it flocked, which the kernel undoes however the holder ends.

const lockSuffix = ".lock"

// runLock marks everything with one id as belonging to this process.
type runLock struct {
	path string
	f    *os.File
}

// stateDir returns a directory for locks that this process can write to.
func stateDir(wanted string) (string, error) {
	if wanted != "" {
		return wanted, os.MkdirAll(wanted, 0o755)
	}
	const usual = "/run/midhop-lab"
	if os.MkdirAll(usual, 0o755) == nil && unix.Access(usual, unix.W_OK) == nil {
		return usual, nil
	}
	other := filepath.Join(os.TempDir(), "midhop-lab")
	return other, os.MkdirAll(other, 0o755)
}

// takeLock chooses a run's id and locks it.
func takeLock(dir string) (string, *runLock, error) {
	for range 100 {
		id := "mh" + newDraw(int64(os.Getpid())<<32^unixNano()).hash(5)
		path := filepath.Join(dir, id+lockSuffix)
		// The file is born under another name, so that nobody can find it before it is locked and says whose it is.
		f, err := os.CreateTemp(dir, fmt.Sprintf(".%s-%d-*", id, os.Getpid()))
		if err != nil {
			return "", nil, fmt.Errorf("make a lock: %w", err)
		}
		l := &runLock{path: path, f: f}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			_ = os.Remove(f.Name())
			f.Close()
			return "", nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		l.note(os.Getpid())
		err = os.Link(f.Name(), path)
		_ = os.Remove(f.Name()) // a leftover is swept by its pid
		if err == nil {
			return id, l, nil
		}
		f.Close()
		if !errors.Is(err, fs.ErrExist) {
			return "", nil, fmt.Errorf("make a lock: %w", err)
		}
	}
	return "", nil, errors.New("found no free id for this run")
}

// note writes down a process that belongs to the run.
func (l *runLock) note(pid int) {
	// A process that cannot be noted has ended; one that is not noted dies with its control socket all the same.
	if start, err := startTime(pid); err == nil {
		fmt.Fprintf(l.f, "%d %d\n", pid, start)
	}
}

func (l *runLock) release() {
	_ = os.Remove(l.path) // gone already is as good
	l.f.Close()
}

// sweep removes what runs left whose holder is dead: their processes, with whom their namespaces, links and rules go,
// and their locks. Runs that live are not touched.
func sweep(dir string, log *slog.Logger) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		log.Warn("cannot look for leftovers of earlier labs", "dir", dir, "error", err)
		return
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case strings.HasSuffix(e.Name(), lockSuffix):
			if err := sweepRun(path); err != nil {
				log.Warn("cannot clear up after an earlier lab", "lock", path, "error", err)
			}
		case strings.HasPrefix(e.Name(), ".mh"): // .<id>-<pid>-<random>, of a run that died while making its lock
			parts := strings.Split(e.Name(), "-")
			if pid, err := strconv.Atoi(parts[min(1, len(parts)-1)]); err == nil && !alive(pid, 0) {
				_ = os.Remove(path)
			}
		}
	}
}

func sweepRun(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil // its holder lives, perhaps where this process cannot see it
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for first := true; lines.Scan(); first = false {
		var pid int
		var start uint64
		if _, err := fmt.Sscan(lines.Text(), &pid, &start); err != nil || pid <= 1 || start == 0 || !alive(pid, start) {
			continue
		}
		if first {
			return nil // the holder lives
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("kill process %d: %w", pid, err)
		}
	}
	return os.Remove(path)
}

// alive says whether a process exists and, where start is not 0, started then.
func alive(pid int, start uint64) bool {
	s, err := startTime(pid)
	return err == nil && (start == 0 || s == start)
}

// startTime is field 22 of /proc/PID/stat: clock ticks from boot to the process's start. With the pid it names a process
// for good. A zombie counts as ended.
func startTime(pid int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// The second field is the command in parentheses and may hold anything.
	i := bytes.LastIndexByte(b, ')')
	fields := strings.Fields(string(b[i+1:]))
	if i < 0 || len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat is %q", pid, b)
	}
	if fields[0] == "Z" || fields[0] == "X" {
		return 0, fmt.Errorf("process %d has ended", pid)
	}
	return strconv.ParseUint(fields[19], 10, 64)
}
