package kubecluster

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/midhop/midhop/tracer/lab"
)

// proxyPort is where a node's kube-proxy finds the API server: on the node's own loopback.
const proxyPort = 6443

// proxies are the kube-proxies of the lab's nodes.
type proxies struct {
	plane *ControlPlane
	mode  string

	mu      sync.Mutex
	running map[int]bool // by the node's first process
	closers []io.Closer
	cmds    []*exec.Cmd
}

// run starts kube-proxy on a machine, or leaves the one that runs there, and returns when its rules name an address.
func (x *proxies) run(m lab.Machine, vip string) error {
	x.mu.Lock()
	was := x.running[m.PID]
	x.running[m.PID] = true
	x.mu.Unlock()
	if !was {
		if err := x.start(m); err != nil {
			return err
		}
	}
	show := []string{"nft", "list", "ruleset"}
	if x.mode == "iptables" {
		show = []string{"iptables-save", "-t", "nat"}
	}
	var out []byte
	var err error
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		// The kernel tells of changed rules too, but only in one of the two modes.
		if out, err = inside(m.PID, show...).CombinedOutput(); err == nil && strings.Contains(string(out), vip) {
			return nil
		}
	}
	return fmt.Errorf("kube-proxy of %s has written no rule for %s in 30 s (%v); see %s", m.Name, vip, err, x.log(m))
}

func (x *proxies) log(m lab.Machine) string {
	return filepath.Join(x.plane.dir, fmt.Sprintf("kube-proxy-%s-%d.log", m.Name, m.PID))
}

// inside is a command in a machine's namespaces: it dies with the machine.
func inside(pid int, argv ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"-t", fmt.Sprint(pid), "-n", "-m", "-u", "-p", "--"}, argv...)...)
}

func (x *proxies) start(m lab.Machine) error {
	if err := x.lead(m); err != nil {
		return err
	}
	kubeconfig, err := x.plane.Kubeconfig(Proxy, fmt.Sprintf("https://127.0.0.1:%d", proxyPort))
	if err != nil {
		return err
	}
	config := filepath.Join(x.plane.dir, "kube-proxy-"+m.Name+".yaml")
	text := fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: %s
hostnameOverride: %s
detectLocalMode: NodeCIDR
clientConnection: {kubeconfig: %s}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
`, x.mode, m.Name, kubeconfig)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	f, err := os.Create(x.log(m))
	if err != nil {
		return err
	}
	defer f.Close()
	cmd := inside(m.PID, filepath.Join(x.plane.bin, "proxy"), "--config="+config)
	cmd.Stdout, cmd.Stderr = f, f
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("kube-proxy of %s: %w", m.Name, err)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.cmds = append(x.cmds, cmd)
	return nil
}

// lead lets a machine reach the API server by its own loopback: a listener in its network namespace, whose connections are
// carried on by this process. So the lab's fabric has no control plane in it, and no fault touches the way there.
func (x *proxies) lead(m lab.Machine) error {
	l, err := listenIn(m.PID, proxyPort)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", m.Name, err)
	}
	x.mu.Lock()
	x.closers = append(x.closers, l)
	x.mu.Unlock()
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			go carry(from, x.plane.Address())
		}
	}()
	return nil
}

func carry(from net.Conn, to string) {
	defer from.Close()
	onward, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer onward.Close()
	go func() { _, _ = io.Copy(onward, from); onward.Close() }()
	_, _ = io.Copy(from, onward)
}

// listenIn listens on a port of another network namespace's loopback. A socket stays where it was made.
func listenIn(pid, port int) (net.Listener, error) {
	type result struct {
		l   net.Listener
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine, in whatever namespace it is
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			ns.Close()
		}
		var l net.Listener
		if err == nil {
			l, err = net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		}
		done <- result{l, err}
	}()
	r := <-done
	return r.l, r.err
}

// close ends what is left; the proxies of machines without power are gone already.
func (x *proxies) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, c := range x.closers {
		c.Close()
	}
	for _, cmd := range x.cmds {
		stop(cmd)
	}
}
