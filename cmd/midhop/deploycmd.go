package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/midhop/midhop/cmd/midhop/deploy"
	"github.com/midhop/midhop/tracer/fleet"
)

// deployOptions are the flags of `midhop deploy`.
type deployOptions struct {
	namespace string
	set       []string
	noSecret  bool
	chart     string
	watch     string
	krew      string
	accounts  []string
}

func newDeploy() *cobra.Command {
	var opts deployOptions
	cmd := &cobra.Command{
		Use:   "deploy",
		Short: "Print the manifests of agents and hub; it applies nothing",
		Long: `Prints the manifests of the agents' DaemonSet and the hub's StatefulSet. It speaks to no cluster and applies nothing:
read them, then pipe them to kubectl apply -f -. They are what the Helm chart gives, which --chart writes to a directory.

A Secret with a fresh certificate for the hub comes first, good for ten years, and a ConfigMap with what is public of it, by
which kubectl midhop knows the hub; with --no-secret bring your own, such as cert-manager's.`,
		Example: "  midhop deploy > midhop.yaml\n  midhop deploy -n monitoring --set hub.storage=50Gi --set monitoring.podMonitor=true --set monitoring.prometheusRule=true\n  midhop deploy --chart ./midhop-chart",
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return runDeploy(cmd.OutOrStdout(), opts) },
	}
	f := cmd.Flags()
	f.StringVarP(&opts.namespace, "namespace", "n", "midhop", "`namespace` to run in; it is printed, too")
	f.StringArrayVar(&opts.set, "set", nil, "change a `value` of the chart, such as hub.storage=50Gi")
	f.BoolVar(&opts.noSecret, "no-secret", false, "leave out the namespace and the Secret of the hub's certificate")
	f.StringVar(&opts.watch, "monitoring", "", "write alert rules for Prometheus and a dashboard for Grafana to this `directory` instead")
	f.StringVar(&opts.krew, "krew", "", "print the manifest of kubectl's plugin manager instead, for the archives of a release in this `directory`")
	f.StringSliceVar(&opts.accounts, "nats-accounts", nil, "print the accounts that a nats-server of your own needs for midhop hub --nats instead, for the agents of these `nodes`")
	f.StringVar(&opts.chart, "chart", "", "write the Helm chart to this `directory` instead")
	return cmd
}

func runDeploy(w io.Writer, o deployOptions) error {
	if len(o.accounts) > 0 {
		return fleet.WriteAccounts(w, fleet.DefaultAccount, o.accounts)
	}
	if o.krew != "" {
		return writeKrew(w, o.krew, version)
	}
	if o.chart != "" || o.watch != "" {
		return errors.Join(writeFiles("--chart", o.chart, deploy.Chart()), writeFiles("--monitoring", o.watch, deploy.Monitoring()))
	}
	values, err := deploy.Defaults()
	if err != nil {
		return err
	}
	for _, s := range o.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return usagef("--set %q: want NAME=VALUE", s)
		}
		if err := deploy.Set(values, name, value); err != nil {
			return usagef("--set %s: %w", s, err)
		}
	}
	var b bytes.Buffer
	if !o.noSecret {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: Namespace\nmetadata:\n  name: %s\n  labels:\n    pod-security.kubernetes.io/enforce: privileged # hostPID and hostNetwork of the agents\n", o.namespace)
		if err := writeSecret(&b, o.namespace); err != nil {
			return err
		}
	}
	if err := deploy.Write(&b, deploy.Options{Namespace: o.namespace, Values: values}); err != nil {
		return err
	}
	_, err = w.Write(b.Bytes())
	return err
}

// certificateAge is how long the printed certificate is good: nobody renews it but whoever prints it again.
const certificateAge = 10 * 365 * 24 * time.Hour

// writeSecret writes a Secret with a new certificate for the hub's service, which is its own authority, and a ConfigMap with
// what is public of it, for those who read from elsewhere.
func writeSecret(w io.Writer, namespace string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return err
	}
	host := "midhop-hub." + namespace + ".svc"
	now := time.Now()
	t := x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "midhop-hub"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certificateAge),
		DNSNames: []string{host, host + ".cluster.local", "localhost"}, // the last for a reader's port-forward
		IsCA:     true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, &t, &t, &key.PublicKey, key)
	if err != nil {
		return err
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	text := func(kind string, der []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	cert := text("CERTIFICATE", der)
	_, err = fmt.Fprintf(w, `---
apiVersion: v1
kind: Secret
metadata:
  name: midhop-hub-tls
  namespace: %s
type: kubernetes.io/tls
data:
  ca.crt: %s
  tls.crt: %s
  tls.key: %s
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: %s
  namespace: %s
data:
  %s: |
%s`, namespace, cert, cert, text("EC PRIVATE KEY", private), hubCA, namespace, hubCAKey,
		indentLines("    ", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return err
}

// indentLines puts a prefix before every line of a text.
func indentLines(prefix string, text []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(text)) {
		b.WriteString(prefix + line)
	}
	return b.String()
}

// writeFiles writes files to a directory that does not exist yet; without one it does nothing.
func writeFiles(flag, dir string, files fs.FS) error {
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(dir); err == nil {
		return usagef("%s %s: it is there already", flag, dir)
	}
	if err := os.CopyFS(dir, files); err != nil {
		return fmt.Errorf("write %s: %w", dir, err)
	}
	return nil
}
