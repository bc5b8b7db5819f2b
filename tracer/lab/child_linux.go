package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// The roles of a child process, its first argument. The arguments that follow are for the reader of a process list.
const (
	roleHost   = "host"
	roleWorker = "worker"
)

// controlFD is the descriptor on which the lab speaks to its children.
const controlFD = 3

// ChildMain is what the lab's own processes run: `midhop lab-node ROLE ...`. It returns when the lab is done with the
// process or has died; the caller then exits, with status 1 on an error.
func ChildMain(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errors.New("lab-node is run by midhop lab only")
	}
	// Started by anybody else, the descriptor may be the Go runtime's own: it must not even be closed then.
	var st unix.Stat_t
	if err := unix.Fstat(controlFD, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		return errors.New("lab-node is run by midhop lab only")
	}
	unix.CloseOnExec(controlFD)
	control := os.NewFile(controlFD, "control")
	switch args[0] {
	case roleHost:
		return hostMain(control)
	case roleWorker:
		return workerMain(ctx, control)
	}
	control.Close()
	return fmt.Errorf("lab-node has no role %q", args[0])
}

// hostMain is the first process of a host. When it ends, so do all others of its PID namespace.
func hostMain(control *os.File) error {
	l, err := fileLine(control)
	if err != nil {
		return err
	}
	defer l.Close()
	h := &hostProcess{line: l}
	for {
		var req request
		files, err := l.receive(&req)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		var a answer
		var out []*os.File
		after := func() {}
		switch {
		case req.Setup != nil:
			err = req.Setup.apply()
		case req.Spawn != nil:
			a.PID, out, after, err = h.spawn(req.Spawn, files)
		default:
			err = errors.New("empty request")
		}
		if err != nil {
			a = answer{Err: err.Error()}
		}
		closeAll(files)
		err = h.answer(a, out...)
		closeAll(out)
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		after()
	}
}

type hostProcess struct {
	line line
	mu   sync.Mutex // answers and notices of exits share the line
}

func (h *hostProcess) answer(a answer, files ...*os.File) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.line.send(a, files...)
}

// apply turns the fresh namespaces of this process into a host: its own /proc, /run, host name and boot id.
func (s *setup) apply() error {
	if err := unix.Sethostname([]byte(s.Hostname)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	const bootID = "/run/boot_id"
	for _, m := range []struct {
		source, target, kind string
		flags                uintptr
	}{
		// Nothing that is mounted below must reach the machine's own mount table.
		{"", "/", "", unix.MS_REC | unix.MS_PRIVATE},
		{"proc", "/proc", "proc", quiet},
		{"tmpfs", "/run", "tmpfs", quiet},
		{bootID, "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND},
	} {
		if m.source == bootID {
			if err := os.WriteFile(bootID, []byte(s.BootID+"\n"), 0o444); err != nil {
				return err
			}
		}
		if err := unix.Mount(m.source, m.target, m.kind, m.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	return nil
}

// spawn starts a process and returns its pid, a pidfd and, if that is new, its network namespace, and what to do once
// the answer is out: wait for the process and tell of its end.
func (h *hostProcess) spawn(s *spawn, files []*os.File) (int, []*os.File, func(), error) {
	none := func() {}
	if len(files) < 2 || len(s.Argv) == 0 {
		return 0, nil, none, fmt.Errorf("a spawn needs two files and a command, not %d and %q", len(files), s.Argv)
	}
	cmd := exec.Command(s.Argv[0], s.Argv[1:]...)
	cmd.Env = s.Env
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = files[0], files[1], files[2:]
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{PidFD: &pidfd}
	if s.NewNet {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS
	}
	if err := startWith(cmd, s.Caps); err != nil {
		return 0, nil, none, err
	}
	pid := cmd.Process.Pid
	out := []*os.File{os.NewFile(uintptr(pidfd), "pidfd")}
	if s.NewNet {
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil {
			closeAll(out)
			return 0, nil, none, fmt.Errorf("open the namespace of %s: %w", s.Argv[0], err)
		}
		out = append(out, ns)
	}
	wait := func() {
		state, err := cmd.Process.Wait()
		how := fmt.Sprint(state)
		if err != nil {
			how = err.Error()
		}
		// Nobody is left to hear it when this fails: the lab is gone, and hostMain reads the end of file.
		_ = h.answer(answer{PID: pid, Exited: how})
	}
	return pid, out, func() { go wait() }, nil
}

// startWith starts cmd from a thread with a bounding set of caps only, unless caps is nil. Such a thread is never used
// again: it ends with its goroutine.
func startWith(cmd *exec.Cmd, caps []int) error {
	if caps == nil {
		return cmd.Start()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := dropCaps(caps)
		if err == nil {
			err = cmd.Start()
		}
		done <- err
	}()
	return <-done
}

// childArgv is the command line of a child process.
func childArgv(prefix []string, role string, notes ...string) []string {
	return slices.Concat(prefix, []string{role}, notes)
}
