package kube

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"

	"k8s.io/client-go/rest"
)

// credentials follows whether requests get as far as the network: a credential plugin, a program that the kubeconfig names, is run
// before them, and what fails there is not the API's fault.
type credentials struct {
	command string // empty: there is no plugin
	hint    string // how it is installed, as the kubeconfig says
	sent    atomic.Uint64
}

func newCredentials(c *rest.Config) *credentials {
	var cr credentials
	if c.ExecProvider != nil {
		cr.command, cr.hint = c.ExecProvider.Command, c.ExecProvider.InstallHint
	}
	return &cr
}

// watch has a config's requests counted. The plugin's own wrapper is put around this one.
func (c *credentials) watch(cfg *rest.Config) {
	cfg.Wrap(func(rt http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			c.sent.Add(1)
			return rt.RoundTrip(r)
		})
	})
}

// blames says that an error is the plugin's, and what helps against it; empty where it is not.
func (c *credentials) blames(err error) string {
	if c.command == "" {
		return ""
	}
	text := err.Error()
	at := strings.Index(text, "exec: ")
	if at < 0 && !strings.Contains(text, "exec plugin") {
		return ""
	}
	if strings.Contains(text, "not found") {
		return c.saying("is not installed, or not in PATH")
	}
	why := firstLine(errors.New(text[max(at, 0):]))
	return c.saying("failed: " + strings.TrimPrefix(why, "exec: "))
}

// hangs is what is said where no request got past the plugin for a while; empty where there is none, or some did.
func (c *credentials) hangs(before uint64, slow string) string {
	if c.command == "" || c.sent.Load() != before {
		return ""
	}
	return c.saying("has not answered for " + slow)
}

func (c *credentials) saying(what string) string {
	text := "the credential plugin " + c.command + ", which the kubeconfig names, " + what + "; the API was not asked"
	if hint := strings.Join(strings.Fields(c.hint), " "); hint != "" {
		text += "; its install hint: " + firstLine(errors.New(hint))
	}
	return text
}

type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
