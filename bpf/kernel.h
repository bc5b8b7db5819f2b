/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The kernel's structs, cut down to the fields that are read here. CO-RE finds where each field lies in the running
 * kernel, so order and size mean nothing. compat.h holds what exists only in some kernels.
 */
#ifndef MIDHOP_KERNEL_H
#define MIDHOP_KERNEL_H

#include <stdbool.h>
#include <linux/types.h>
#include <bpf/bpf_helpers.h>

#define AF_INET	 2
#define AF_INET6 10

#define SOCK_STREAM 1 /* not on MIPS */

#define IPPROTO_TCP   6
#define IPPROTO_MPTCP 262

#define TASK_COMM_LEN 16

/* net/tcp_states.h */
enum {
	TCP_ESTABLISHED = 1,
	TCP_SYN_SENT = 2,
	TCP_CLOSE = 7,
	TCP_LISTEN = 10,
};

/* include/net/sock.h; the numbers are taken from the running kernel. */
enum sock_flags {
	SOCK_DEAD,
	SOCK_KEEPOPEN,
};

/* In the kernel's order; Loss comes after Recovery. */
enum tcp_ca_state {
	TCP_CA_Open,
	TCP_CA_Disorder,
	TCP_CA_CWR,
	TCP_CA_Recovery,
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct hlist_node {
	struct hlist_node **pprev; /* NULL: not in a list; of a timer: not pending */
};

/* A timer; expires is in jiffies. */
struct timer_list {
	struct hlist_node entry;
	unsigned long expires;
};

struct list_head {
	struct list_head *next;
};

struct in6_addr {
	union {
		__u8 u6_addr8[16];
		__be32 u6_addr32[4];
	} in6_u;
};

/* What all kinds of namespaces have in common: the inode number by which users know them. */
struct ns_common {
	unsigned int inum;
};

/* A namespace's IPv4 settings, which TCP over IPv6 uses too. Spans are in jiffies. */
struct netns_ipv4 {
	int sysctl_tcp_keepalive_time;
	int sysctl_tcp_keepalive_intvl;
	__u8 sysctl_tcp_keepalive_probes;
	__u8 sysctl_tcp_retries2;
	__u8 sysctl_tcp_syn_retries;
	__u8 sysctl_tcp_orphan_retries;
};

/* A network namespace. */
struct net {
	struct ns_common ns;
	struct netns_ipv4 ipv4;
};

typedef struct {
	struct net *net;
} possible_net_t;

typedef struct {
	__s64 counter;
} atomic64_t;

typedef struct {
	int counter;
} atomic_t;

typedef struct refcount_struct {
	atomic_t refs;
} refcount_t;

/* The part of a socket that mini-sockets have too: its tuple. */
struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	atomic64_t skc_cookie;
	unsigned long skc_flags;
};

/* A full socket. */
struct sock {
	struct sock_common __sk_common;
	struct timer_list sk_timer;
	int sk_err;
	__u16 sk_type;
	__u16 sk_protocol;
};

/* What IPv4 and IPv6 sockets share; inet_sport outlives skc_num when a socket is unhashed. */
struct inet_sock {
	struct sock sk;
	__be16 inet_sport;
};

/* The connection's timers and counters of failure. Spans are in jiffies, icsk_user_timeout in ms. */
struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct timer_list icsk_retransmit_timer;
	__u32 icsk_rto;
	__u32 icsk_rto_min;
	__u32 icsk_rto_max;
	__u8 icsk_ca_state : 5;
	__u8 icsk_retransmits;
	__u8 icsk_pending;
	__u8 icsk_backoff;
	__u8 icsk_syn_retries;
	__u8 icsk_probes_out;
	struct {
		__u32 lrcvtime; /* when data was received last */
	} icsk_ack;
	__u32 icsk_user_timeout;
};

/* TCP's sequence numbers, counters and stamps. */
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	__u64 bytes_received;
	__u64 bytes_acked;
	__u32 segs_in;
	__u32 segs_out;
	__u32 snd_una;
	__u32 snd_nxt;
	__u32 snd_wnd;
	__u32 write_seq;
	__u32 rcv_tstamp; /* jiffies: when an acknowledgement was received last */
	__u32 lsndtime; /* jiffies: when data was sent last */
	__u32 srtt_us; /* times eight */
	__u32 retrans_stamp;
	__u32 total_retrans;
	unsigned int keepalive_time; /* jiffies, 0: the namespace's */
	unsigned int keepalive_intvl;
	__u8 keepalive_probes;
	__u8 tcp_usec_ts : 1;
	bool is_mptcp;
};

/* An MPTCP connection; the segments travel in the TCP sockets of conn_list. */
struct mptcp_sock {
	struct list_head conn_list;
};

/* Ties one TCP socket into the conn_list of its connection. */
struct mptcp_subflow_context {
	struct list_head node;
	struct sock *tcp_sock;
};

/* The socket as a file shows it. */
struct socket {
	struct sock *sk;
};

/* The namespaces of a task. */
struct nsproxy {
	struct net *net_ns;
};

/* A directory of a hierarchy of cgroups; since 5.5 its id is the inode number, and new for each (kernfs_new_node). */
struct kernfs_node {
	const char *name;
	__u64 id;
};

/* The part of a cgroup that ties it to its parent. */
struct cgroup_subsys_state {
	struct cgroup_subsys_state *parent; /* NULL: of the root */
};

struct cgroup {
	struct cgroup_subsys_state self;
	int level; /* 0: the root */
	struct kernfs_node *kn;
};

/* Where a task stands in all hierarchies. */
struct css_set {
	struct cgroup *dfl_cgrp; /* in that of version 2 */
};

/* A process or thread; the census says who holds a socket. */
struct task_struct {
	int tgid;
	struct task_struct *group_leader;
	struct css_set *cgroups;
	struct nsproxy *nsproxy; /* NULL once it is exiting */
	char comm[TASK_COMM_LEN];
};

/* A network device. */
struct net_device {
	possible_net_t nd_net;
};

/* A packet; the low bits of _nfct are flags, the rest points to its nf_conn. Headers are offsets from head. */
struct sk_buff {
	unsigned long _nfct;
	struct net_device *dev;
	unsigned char *head;
	__u16 network_header;
	__u16 transport_header;
};

union nf_inet_addr {
	__u32 all[4];
};

/* Who speaks, of one direction of a connection. */
struct nf_conntrack_man {
	union nf_inet_addr u3;
	union {
		__be16 all;
	} u;
	__u16 l3num; /* AF_INET or AF_INET6 */
};

/* One direction of a connection. */
struct nf_conntrack_tuple {
	struct nf_conntrack_man src;
	struct {
		union nf_inet_addr u3;
		union {
			__be16 all;
		} u;
		__u8 protonum;
	} dst;
};

struct nf_conntrack_tuple_hash {
	struct nf_conntrack_tuple tuple;
};

struct nf_conntrack_zone {
	__u16 id;
};

struct ip_ct_tcp {
	__u8 state; /* enum tcp_conntrack */
};

union nf_conntrack_proto {
	struct ip_ct_tcp tcp;
};

/* A conntrack entry. zone and mark depend on the kernel's configuration. */
struct nf_conn {
	__u32 timeout; /* jiffies at which it ends (nfct_time_stamp) */
	struct nf_conntrack_zone zone;
	struct nf_conntrack_tuple_hash tuplehash[2]; /* as it came, and as its answers come */
	unsigned long status;
	possible_net_t ct_net;
	__u32 mark;
	union nf_conntrack_proto proto;
};

struct super_block {
	unsigned long s_magic;
};

struct inode {
	unsigned long i_ino; /* of sockfs: 32 bits (get_next_ino) */
	struct super_block *i_sb;
};

/* An open file; that of a socket belongs to sockfs and leads to its struct socket. */
struct file {
	struct inode *f_inode;
	void *private_data;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 seq_num; /* of the file, from 0 */
};

struct bpf_map;

/* What an iterator over the storage of all sockets is called with. */
struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct bpf_map *map;
	struct sock *sk;
	void *value;
};

/* What an iterator over the open files of all tasks is called with. */
struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct file *file;
};

#pragma clang attribute pop

#endif
