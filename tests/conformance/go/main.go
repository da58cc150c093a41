// Drives Go's Flight SQL client through every case and prints one JSON line for each:
// {"case": …, "value": …} or {"case": …, "error": …, "code": …}. It judges nothing; the test that starts it compares.
//
// Arguments: address, user, password, and "changes" for what changes something.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

type row = []string

func report(name string, run func() (any, error)) {
	line := map[string]any{"case": name}
	if value, err := run(); err != nil {
		line["error"], line["code"] = err.Error(), code(err)
	} else {
		line["value"] = value
	}
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		panic(err)
	}
}

// code finds the gRPC status in whatever the library wrapped it in.
func code(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		if found, ok := status.FromError(err); ok {
			return found.Code().String()
		}
	}
	return "none"
}

func connect(address string) (*flightsql.Client, error) {
	return flightsql.NewClient(address, nil, nil, grpc.WithTransportCredentials(insecure.NewCredentials()))
}

func login(address, user, password string) (*flightsql.Client, context.Context, error) {
	client, err := connect(address)
	if err != nil {
		return nil, nil, err
	}
	ctx, err := client.Client.AuthenticateBasicToken(context.Background(), user, password)
	return client, ctx, err
}

// fetch gives the schema of the info's only endpoint and its rows as text.
func fetch(ctx context.Context, client *flightsql.Client, info *flight.FlightInfo) (*arrow.Schema, []row, error) {
	if len(info.Endpoint) != 1 {
		return nil, nil, fmt.Errorf("%d endpoints", len(info.Endpoint))
	}
	told, err := flight.DeserializeSchema(info.GetSchema(), client.Alloc)
	if err != nil {
		return nil, nil, err
	}
	reader, err := client.DoGet(ctx, info.Endpoint[0].Ticket)
	if err != nil {
		return nil, nil, err
	}
	defer reader.Release()
	if !told.Equal(reader.Schema()) {
		return nil, nil, fmt.Errorf("FlightInfo tells %s, the stream %s", told, reader.Schema())
	}
	rows := []row{}
	for reader.Next() {
		batch := reader.RecordBatch()
		for i := 0; i < int(batch.NumRows()); i++ {
			values := row{}
			for _, column := range batch.Columns() {
				values = append(values, column.ValueStr(i))
			}
			rows = append(rows, values)
		}
	}
	if err := reader.Err(); err != nil && !errors.Is(err, io.EOF) {
		return nil, nil, err
	}
	return reader.Schema(), rows, nil
}

func query(ctx context.Context, client *flightsql.Client, sql string) ([]row, error) {
	info, err := client.Execute(ctx, sql)
	if err != nil {
		return nil, err
	}
	_, rows, err := fetch(ctx, client, info)
	return rows, err
}

// sum reads a result of one column of whole numbers batch by batch, under Go's own limit for a message.
func sum(ctx context.Context, client *flightsql.Client, sql string) (any, error) {
	info, err := client.Execute(ctx, sql)
	if err != nil {
		return nil, err
	}
	reader, err := client.DoGet(ctx, info.Endpoint[0].Ticket)
	if err != nil {
		return nil, err
	}
	defer reader.Release()
	var count, total int64
	for reader.Next() {
		for _, value := range reader.RecordBatch().Column(0).(*array.Int64).Int64Values() {
			count, total = count+1, total+value
		}
	}
	return []int64{count, total}, reader.Err()
}

func fields(schema *arrow.Schema) []string {
	found := []string{}
	for _, field := range schema.Fields() {
		found = append(found, field.Name+": "+field.Type.String())
	}
	return found
}

func text(value string) *string { return &value }

func main() {
	address, user, password := os.Args[1], os.Args[2], os.Args[3]
	report("wrong password", func() (any, error) {
		client, _, err := login(address, user, password+"x")
		if client != nil {
			defer client.Close()
		}
		return "let in", err
	})
	report("no credentials", func() (any, error) {
		client, err := connect(address)
		if err != nil {
			return nil, err
		}
		defer client.Close()
		return query(context.Background(), client, "SELECT 1")
	})
	client, ctx, err := login(address, user, password)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer client.Close()
	if len(os.Args) > 4 && os.Args[4] == "changes" {
		changes(ctx, client)
		return
	}
	statementCases(ctx, client)
	metadataCases(ctx, client)
	commandCases(ctx, client, address, user, password)
}

func statementCases(ctx context.Context, client *flightsql.Client) {
	report("handshake", func() (any, error) { return query(ctx, client, "SELECT current_user AS who") })
	report("select", func() (any, error) {
		return query(ctx, client, "SELECT symbol, last_price, volume FROM market_data ORDER BY symbol")
	})
	report("decimals", func() (any, error) {
		return query(ctx, client, "SELECT account, symbol, average_price FROM positions ORDER BY account, symbol")
	})
	report("million", func() (any, error) { return sum(ctx, client, "SELECT range AS n FROM range(1000000)") })
	report("execute schema", func() (any, error) {
		result, err := client.GetExecuteSchema(ctx, "SELECT * FROM positions")
		if err != nil {
			return nil, err
		}
		schema, err := flight.DeserializeSchema(result.GetSchema(), client.Alloc)
		if err != nil {
			return nil, err
		}
		return fields(schema), nil
	})
	report("prepared", func() (any, error) {
		statement, err := client.Prepare(ctx, "SELECT count(*) AS n FROM market_data")
		if err != nil {
			return nil, err
		}
		found := []any{fields(statement.DatasetSchema()), fields(statement.ParameterSchema())}
		for i := 0; i < 2; i++ {
			info, err := statement.Execute(ctx)
			if err != nil {
				return nil, err
			}
			_, rows, err := fetch(ctx, client, info)
			if err != nil {
				return nil, err
			}
			found = append(found, rows)
		}
		return found, statement.Close(ctx)
	})
	report("bad sql", func() (any, error) { return query(ctx, client, "SELEC 1") })
	report("unfinished sql", func() (any, error) { return query(ctx, client, "SELECT 1 FROM") })
	report("unknown table", func() (any, error) { return query(ctx, client, "SELECT * FROM no_such_table") })
	report("deadline", func() (any, error) {
		short, stop := context.WithTimeout(ctx, 500*time.Millisecond)
		defer stop()
		return query(short, client, "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b")
	})
	report("after errors", func() (any, error) { return query(ctx, client, "SELECT 1 AS one") })
}

func metadataCases(ctx context.Context, client *flightsql.Client) {
	report("catalogs", func() (any, error) {
		info, err := client.GetCatalogs(ctx)
		if err != nil {
			return nil, err
		}
		_, rows, err := fetch(ctx, client, info)
		return rows, err
	})
	report("tables", func() (any, error) {
		info, err := client.GetTables(ctx, &flightsql.GetTablesOpts{
			Catalog: text("desk"), DbSchemaFilterPattern: text("main"), TableNameFilterPattern: text(`market\_data`),
		})
		if err != nil {
			return nil, err
		}
		_, rows, err := fetch(ctx, client, info)
		return rows, err
	})
	report("table schemas", func() (any, error) {
		info, err := client.GetTables(ctx, &flightsql.GetTablesOpts{IncludeSchema: true})
		if err != nil {
			return nil, err
		}
		reader, err := client.DoGet(ctx, info.Endpoint[0].Ticket)
		if err != nil {
			return nil, err
		}
		defer reader.Release()
		found := map[string][]string{}
		for reader.Next() {
			batch := reader.RecordBatch()
			for i := 0; i < int(batch.NumRows()); i++ {
				packed := batch.Column(4).(*array.Binary).Value(i)
				schema, err := flight.DeserializeSchema(packed, client.Alloc)
				if err != nil {
					return nil, err
				}
				found[batch.Column(2).(*array.String).Value(i)] = fields(schema)
			}
		}
		return found, reader.Err()
	})
	report("sql info", func() (any, error) {
		info, err := client.GetSqlInfo(ctx, []flightsql.SqlInfo{
			flightsql.SqlInfoFlightSqlServerName,
			flightsql.SqlInfoFlightSqlServerReadOnly,
			flightsql.SqlInfoFlightSqlServerTransaction,
		})
		if err != nil {
			return nil, err
		}
		_, rows, err := fetch(ctx, client, info)
		return rows, err
	})
	report("all sql info", func() (any, error) {
		info, err := client.GetSqlInfo(ctx, nil)
		if err != nil {
			return nil, err
		}
		_, rows, err := fetch(ctx, client, info)
		return len(rows), err
	})
}
