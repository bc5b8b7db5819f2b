package kubeaccess

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Client asks an API server the few things that are not watched: which pods carry some labels, one object, a token.
type Client struct {
	client *http.Client
	base   string
}

// NewClient returns a Client. It asks nothing yet.
func NewClient(a *Access) (*Client, error) {
	client, err := rest.HTTPClientFor(a.Config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", a.Config.Host, err)
	}
	base, _, err := rest.DefaultServerUrlFor(a.Config)
	if err != nil {
		return nil, fmt.Errorf("kubernetes API %s: %w", a.Config.Host, err)
	}
	called := *client // client-go hands out its default client where nothing is configured
	called.Transport = CalledOff(client.Transport)
	return &Client{client: &called, base: strings.TrimSuffix(base.String(), "/")}, nil
}

// StatusError is an answer of the API server that is no success.
type StatusError struct {
	Code int    // of HTTP
	Text string // what the server says, for people
}

func (e *StatusError) Error() string { return "the Kubernetes API says: " + e.Text }

// maxObjects bounds what is read of an answer that holds objects: some pods, not a cluster of them.
const maxObjects = 16 << 20

// do sends one request; in and out are JSON, and either may be nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("ask the Kubernetes API: %w", err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxObjects))
	if err != nil {
		return fmt.Errorf("ask the Kubernetes API: %w", err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		e := &StatusError{Code: resp.StatusCode, Text: resp.Status}
		var said metav1.Status
		if json.Unmarshal(text, &said) == nil && said.Message != "" {
			e.Text = said.Message
		}
		return e
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("the Kubernetes API's answer to %s: %w", path, err)
	}
	return nil
}

// Pods returns the pods that a selector such as app=x,tier=y matches, of one namespace or, where that is empty, of all.
func (c *Client) Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	path := "/api/v1/pods"
	if namespace != "" {
		path = "/api/v1/namespaces/" + url.PathEscape(namespace) + "/pods"
	}
	var list corev1.PodList
	err := c.do(ctx, http.MethodGet, path+"?labelSelector="+url.QueryEscape(selector), nil, &list)
	return list.Items, err
}

// Value returns what a ConfigMap, or where secret is set a Secret, holds under a key; empty where it has no such key.
func (c *Client) Value(ctx context.Context, secret bool, namespace, name, key string) ([]byte, error) {
	path := "/api/v1/namespaces/" + url.PathEscape(namespace)
	if secret {
		var s corev1.Secret
		err := c.do(ctx, http.MethodGet, path+"/secrets/"+url.PathEscape(name), nil, &s)
		return s.Data[key], err
	}
	var m corev1.ConfigMap
	err := c.do(ctx, http.MethodGet, path+"/configmaps/"+url.PathEscape(name), nil, &m)
	return []byte(m.Data[key]), err
}

// Token has the API issue a token of a ServiceAccount for this audience, as kubectl create token does. It may be good for
// longer or shorter than asked for; expires says how long.
func (c *Client) Token(ctx context.Context, namespace, account string, good time.Duration) (token string, expires time.Time, err error) {
	seconds := int64(good / time.Second)
	ask := authenticationv1.TokenRequest{
		TypeMeta: metav1.TypeMeta{APIVersion: "authentication.k8s.io/v1", Kind: "TokenRequest"},
		Spec:     authenticationv1.TokenRequestSpec{Audiences: []string{Audience}, ExpirationSeconds: &seconds},
	}
	var answer authenticationv1.TokenRequest
	path := "/api/v1/namespaces/" + url.PathEscape(namespace) + "/serviceaccounts/" + url.PathEscape(account) + "/token"
	if err := c.do(ctx, http.MethodPost, path, &ask, &answer); err != nil {
		return "", time.Time{}, err
	}
	if answer.Status.Token == "" {
		return "", time.Time{}, fmt.Errorf("the Kubernetes API issued an empty token for %s/%s", namespace, account)
	}
	return answer.Status.Token, answer.Status.ExpirationTimestamp.Time, nil
}
