package lab

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// host is a machine of the lab: a process tree with its own network, PID, mount and UTS namespace.
type host struct {
	name   string
	bootID string
	log    *slog.Logger
	net    *space
	cmd    *exec.Cmd
	line   line

	asking  sync.Mutex // one request at a time
	replies chan reply // to the request in flight
	gone    chan struct{}

	mu     sync.Mutex
	asked  string        // the name of the process that the request in flight starts
	procs  map[int]*proc // by pid as the host counts
	killed bool          // on purpose: its processes' ends are no news
}

// reply is an answer with all that came with it.
type reply struct {
	answer
	files []*os.File
	proc  *proc // that the request started
}

// proc is a process on a host.
type proc struct {
	name  string
	pidfd *os.File
	net   *space // of its own, or nil
	done  chan struct{}
	how   string // valid once done is closed

	wanted atomic.Bool // its end is part of the scenario
}

// starter starts processes from one thread that lives as long as the lab: a child's parent-death signal fires when the
// thread that made it ends (PR_SET_PDEATHSIG in prctl(2)), and Go's threads come and go.
type starter struct {
	work chan func()
	quit chan struct{}
}

func newStarter() *starter {
	s := &starter{work: make(chan func()), quit: make(chan struct{})}
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		for {
			select {
			case f := <-s.work:
				f()
			case <-s.quit:
				return
			}
		}
	}()
	return s
}

func (s *starter) start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	select {
	case s.work <- func() { done <- cmd.Start() }:
		return <-done
	case <-s.quit:
		return errClosed
	}
}

func (s *starter) stop() { close(s.quit) }

// boot starts a host's tree and sets it up under a boot id that it never had before.
func (c *Cluster) boot(name string) (*host, error) {
	ours, theirs, err := linePair()
	if err != nil {
		return nil, err
	}
	argv := childArgv(c.opts.Child, roleHost, c.id, name)
	// Before Linux 5.11 maps are charged to this limit, and an agent has no right to raise it.
	_ = unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY})
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS | syscall.CLONE_NEWUTS,
		Pdeathsig:  syscall.SIGKILL,
		Setpgid:    true, // an interrupt typed at the terminal is the lab's to handle
	}
	h := &host{
		name: name, bootID: bootID(), log: c.log.With("host", name), cmd: cmd, line: ours,
		replies: make(chan reply), gone: make(chan struct{}), procs: map[int]*proc{},
	}
	cmd.Stderr = &logWriter{log: h.log}
	err = c.starter.start(cmd)
	theirs.Close()
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("start host %s: %w", name, err)
	}
	c.lock.note(cmd.Process.Pid)
	go h.listen()
	go func() {
		err := cmd.Wait()
		if !h.isKilled() {
			h.log.Error("a host of the lab died", "error", err)
		}
		close(h.gone)
	}()
	if err := h.open(); err != nil {
		h.kill()
		return nil, err
	}
	return h, nil
}

func (h *host) open() error {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", h.cmd.Process.Pid))
	if err != nil {
		return fmt.Errorf("open the namespace of %s: %w", h.name, err)
	}
	if h.net, err = openSpace(f); err != nil {
		return err
	}
	_, err = h.ask(request{Setup: &setup{Hostname: h.name, BootID: h.bootID}}, "")
	return err
}

// listen takes answers and notices from the host until it is gone.
func (h *host) listen() {
	defer h.line.Close()
	for {
		var a answer
		files, err := h.line.receive(&a)
		if err != nil {
			if !errors.Is(err, io.EOF) && !h.isKilled() {
				h.log.Error("a host of the lab cannot be understood", "error", err)
			}
			return
		}
		if a.Exited != "" {
			h.exited(a)
			continue
		}
		r := reply{answer: a, files: files}
		if a.PID != 0 {
			r.proc = h.started(a.PID)
		}
		select {
		case h.replies <- r:
		case <-h.gone:
			closeAll(files)
			return
		}
	}
}

// started enters a process before anything can be heard of its end.
func (h *host) started(pid int) *proc {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := &proc{name: h.asked, done: make(chan struct{})}
	h.procs[pid] = p
	return p
}

func (h *host) exited(a answer) {
	h.mu.Lock()
	p, killed := h.procs[a.PID], h.killed
	h.mu.Unlock()
	if p == nil {
		return
	}
	p.how = a.Exited
	close(p.done)
	if !killed && !p.wanted.Load() {
		h.log.Warn("a process of the lab ended", "process", p.name, "how", a.Exited)
	}
}

// ask sends a request and waits for its answer.
func (h *host) ask(r request, name string, files ...*os.File) (reply, error) {
	h.asking.Lock()
	defer h.asking.Unlock()
	h.mu.Lock()
	h.asked = name
	h.mu.Unlock()
	if err := h.line.send(r, files...); err != nil {
		return reply{}, fmt.Errorf("ask host %s: %w", h.name, err)
	}
	late := time.NewTimer(answerWait)
	defer late.Stop()
	select {
	case a := <-h.replies:
		if a.Err != "" {
			closeAll(a.files)
			return reply{}, fmt.Errorf("host %s: %s", h.name, a.Err)
		}
		return a, nil
	case <-h.gone:
		return reply{}, fmt.Errorf("host %s is gone", h.name)
	case <-late.C:
		return reply{}, fmt.Errorf("host %s did not answer for %s", h.name, answerWait)
	}
}

// spawn starts a process on the host. The files are its standard output and error and, if there is a third, its
// descriptor 3.
func (h *host) spawn(name string, s spawn, files ...*os.File) (*proc, error) {
	r, err := h.ask(request{Spawn: &s}, name, files...)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	want := 1
	if s.NewNet {
		want = 2
	}
	if len(r.files) != want || r.proc == nil {
		closeAll(r.files)
		return nil, fmt.Errorf("start %s: host %s sent %d files, not %d", name, h.name, len(r.files), want)
	}
	r.proc.pidfd = r.files[0]
	if s.NewNet {
		if r.proc.net, err = openSpace(r.files[1]); err != nil {
			return nil, err
		}
	}
	return r.proc, nil
}

// kill ends a process without a goodbye.
func (p *proc) kill() error {
	p.wanted.Store(true)
	return p.signal(unix.SIGKILL)
}

func (p *proc) signal(sig unix.Signal) error {
	err := unix.PidfdSendSignal(int(p.pidfd.Fd()), sig, nil, 0)
	if err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("send %s to %s: %w", sig, p.name, err)
	}
	return nil
}

func (p *proc) close() {
	if p.pidfd != nil {
		p.pidfd.Close()
	}
	p.net.close()
}

func (h *host) isKilled() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.killed
}

// kill ends the host's first process and with it all others, and waits until they are gone. What is still on its way
// out of its sockets is lost only if its links are down already.
func (h *host) kill() {
	h.strike()
	h.bury()
}

// freeze stops what runs on the host, where it stands.
func (h *host) freeze() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.procs {
		_ = p.signal(unix.SIGSTOP) // fails only where it is dead already
	}
}

// strike ends the host's first process.
func (h *host) strike() {
	h.mu.Lock()
	h.killed = true
	h.mu.Unlock()
	_ = h.cmd.Process.Kill() // fails only where it is dead already
}

// bury waits until a struck host is gone, which takes a loaded machine a second, and forgets it.
func (h *host) bury() {
	<-h.gone
	h.line.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.procs {
		p.close()
	}
	h.procs = nil
	h.net.close()
	h.net = nil
}

// bootID returns a fresh random id in the form of /proc/sys/kernel/random/boot_id.
func bootID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// logWriter turns a child's standard error into log lines.
type logWriter struct {
	log  *slog.Logger
	rest []byte
}

func (w *logWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		advance, text, err := bufio.ScanLines(w.rest, false)
		if advance == 0 || err != nil {
			return len(b), nil
		}
		w.log.Warn("lab child", "stderr", string(text))
		w.rest = w.rest[advance:]
	}
}

// drain copies a child's standard error into the log until its last holder closes it.
func drain(r io.ReadCloser, log *slog.Logger, level slog.Level) {
	defer r.Close()
	in := bufio.NewScanner(r)
	for in.Scan() {
		log.Log(context.Background(), level, "lab child", "stderr", in.Text())
	}
}
