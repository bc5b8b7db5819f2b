package kubecluster

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// The users that the API server knows, by the token that each shows.
const (
	Admin    = "admin"    // of system:masters
	Proxy    = "proxy"    // kube-proxy
	Hub      = "hub"      // may what midhop's correlator may
	Agent    = "agent"    // may what midhop's agent may
	Outsider = "outsider" // may nothing
)

const tokens = `admin,admin,1,"system:masters"
proxy,system:kube-proxy,2
hub,system:serviceaccount:midhop:midhop,4
agent,system:serviceaccount:midhop:midhop-agent,5
outsider,outsider,6
`

// ServiceRange is the range of cluster addresses that the lab draws from.
const ServiceRange = "10.96.0.0/16"

// ControlPlane is a kube-apiserver on loopback. It may be stopped and started again with its data.
type ControlPlane struct {
	bin, dir string
	port     int
	etcd     string
	api      *exec.Cmd
	others   []*exec.Cmd
}

// Start runs an API server of the binaries in bin, with its data and logs in dir, and returns when it is ready.
func Start(ctx context.Context, bin, dir string) (*ControlPlane, error) {
	p := &ControlPlane{bin: bin, dir: dir}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"tokens.csv": []byte(tokens),
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	if p.port, err = freePort(); err != nil {
		return nil, err
	}
	etcd, err := freePort()
	if err != nil {
		return nil, err
	}
	p.etcd = fmt.Sprintf("http://127.0.0.1:%d", etcd)
	return p, p.Up(ctx)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Up starts the API server and returns when it is ready.
func (p *ControlPlane) Up(ctx context.Context) error {
	key := filepath.Join(p.dir, "sa.key")
	cmd := exec.Command(filepath.Join(p.bin, "apiserver"),
		"--etcd-servers="+p.etcd, "--cert-dir="+p.dir, "--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+key, "--service-account-signing-key-file="+key,
		"--token-auth-file="+filepath.Join(p.dir, "tokens.csv"), "--authorization-mode=RBAC",
		"--service-cluster-ip-range="+ServiceRange, "--disable-admission-plugins=ServiceAccount",
		"--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none",
		fmt.Sprintf("--secure-port=%d", p.port))
	cmd.Env = append(os.Environ(), "KUBECLUSTER_ETCD_DIR="+filepath.Join(p.dir, "etcd"), "KUBECLUSTER_ETCD_URL="+p.etcd)
	if err := p.start(cmd, "apiserver.log"); err != nil {
		return err
	}
	p.api = cmd
	client, err := kubernetes.NewForConfig(p.Config(Admin))
	if err != nil {
		return err
	}
	var last error
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); {
		if _, last = client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond): // it has no other way to say that it is ready
		}
	}
	return fmt.Errorf("the API server is not ready after three minutes: %w; its log is %s", last, filepath.Join(p.dir, "apiserver.log"))
}

// Down kills the API server. Its data stays.
func (p *ControlPlane) Down() {
	if p.api != nil {
		stop(p.api)
		p.api = nil
	}
}

// RunControllers starts kube-controller-manager with the named controllers. grace is how long a kubelet may be silent.
func (p *ControlPlane) RunControllers(grace time.Duration, controllers string) error {
	// Its own user's rights are for controllers that have service accounts each, which nobody makes here.
	config, err := p.Kubeconfig(Admin, fmt.Sprintf("https://127.0.0.1:%d", p.port))
	if err != nil {
		return err
	}
	cmd := exec.Command(filepath.Join(p.bin, "controllers"), "--kubeconfig="+config, "--controllers="+controllers,
		"--leader-elect=false", "--node-monitor-grace-period="+grace.String(), "--node-monitor-period=1s", "--secure-port=0")
	if err := p.start(cmd, "controllers.log"); err != nil {
		return err
	}
	p.others = append(p.others, cmd)
	return nil
}

// Close stops everything.
func (p *ControlPlane) Close() {
	for _, cmd := range p.others {
		stop(cmd)
	}
	p.Down()
}

func (p *ControlPlane) start(cmd *exec.Cmd, log string) error {
	f, err := os.OpenFile(filepath.Join(p.dir, log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	cmd.Stdout, cmd.Stderr, cmd.Dir = f, f, p.dir // etcd puts the socket of its peers into its directory
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("%w: run make kubecluster", err)
		}
		return err
	}
	return nil
}

func stop(cmd *exec.Cmd) {
	_ = cmd.Process.Kill() // fails only where it has ended already
	_ = cmd.Wait()
}

// Config is the way to the API server for a user.
func (p *ControlPlane) Config(user string) *rest.Config {
	return &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", p.port), BearerToken: user, TLSClientConfig: rest.TLSClientConfig{Insecure: true},
		QPS: 200, Burst: 400,
	}
}

// Address is where the API server listens.
func (p *ControlPlane) Address() string { return fmt.Sprintf("127.0.0.1:%d", p.port) }

// Kubeconfig writes a kubeconfig for a user and a URL of the API server, and returns its path.
func (p *ControlPlane) Kubeconfig(user, url string) (string, error) {
	var b bytes.Buffer
	fmt.Fprintf(&b, `apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: %q, insecure-skip-tls-verify: true}}]
users: [{name: %s, user: {token: %s}}]
contexts: [{name: lab, context: {cluster: lab, user: %s}}]
`, url, user, user, user)
	// Several may ask for the same one at once, and none may read half of it.
	f, err := os.CreateTemp(p.dir, user+"-*.kubeconfig")
	if err != nil {
		return "", err
	}
	_, err = f.Write(b.Bytes())
	return f.Name(), errors.Join(err, f.Close())
}
