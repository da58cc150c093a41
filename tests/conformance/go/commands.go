package main

import (
	"context"
	"errors"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/flight"
	"github.com/apache/arrow-go/v18/arrow/flight/flightsql"
)

const endless = "SELECT range AS n FROM range(1000000000000)"

// commandCases sends every command that reads, and the actions of sessions and running queries.
func commandCases(ctx context.Context, client *flightsql.Client, address, user, password string) {
	fetched := func(name string, ask func() (*flight.FlightInfo, error)) {
		report(name, func() (any, error) {
			info, err := ask()
			if err != nil {
				return nil, err
			}
			schema, rows, err := fetch(ctx, client, info)
			if err != nil {
				return nil, err
			}
			return map[string]any{"columns": fields(schema), "rows": rows}, nil
		})
	}
	orders := flightsql.TableRef{Catalog: text("desk"), DBSchema: text("main"), Table: "orders"}
	positions := flightsql.TableRef{Table: "positions"}
	fetched("schemas", func() (*flight.FlightInfo, error) {
		return client.GetDBSchemas(ctx, &flightsql.GetDBSchemasOpts{Catalog: text("desk"), DbSchemaFilterPattern: text("ma_n")})
	})
	fetched("table types", func() (*flight.FlightInfo, error) { return client.GetTableTypes(ctx) })
	fetched("primary keys", func() (*flight.FlightInfo, error) { return client.GetPrimaryKeys(ctx, positions) })
	fetched("exported keys", func() (*flight.FlightInfo, error) { return client.GetExportedKeys(ctx, orders) })
	fetched("imported keys", func() (*flight.FlightInfo, error) { return client.GetImportedKeys(ctx, orders) })
	fetched("cross reference", func() (*flight.FlightInfo, error) { return client.GetCrossReference(ctx, positions, orders) })
	fetched("all types", func() (*flight.FlightInfo, error) { return client.GetXdbcTypeInfo(ctx, nil) })
	fetched("types of a code", func() (*flight.FlightInfo, error) {
		code := int32(-5)
		return client.GetXdbcTypeInfo(ctx, &code)
	})
	stopCases(ctx, client)
	report("renewed", func() (any, error) {
		info, err := client.Execute(ctx, "SELECT 7 AS n")
		if err != nil {
			return nil, err
		}
		endpoint, err := client.RenewFlightEndpoint(ctx, &flight.RenewFlightEndpointRequest{Endpoint: info.Endpoint[0]})
		if err != nil {
			return nil, err
		}
		_, rows, err := fetch(ctx, client, &flight.FlightInfo{Schema: info.Schema, Endpoint: []*flight.FlightEndpoint{endpoint}})
		return rows, err
	})
	refusedCases(ctx, client)
	report("session", func() (any, error) { return session(address, user, password) })
}

// stopCases begins to read a result without end, cancels it in both ways, and reads on.
func stopCases(ctx context.Context, client *flightsql.Client) {
	stopped := func(name string, stop func(*flight.FlightInfo) (string, error)) {
		report(name, func() (any, error) {
			info, err := client.Execute(ctx, endless)
			if err != nil {
				return nil, err
			}
			reader, err := client.DoGet(ctx, info.Endpoint[0].Ticket)
			if err != nil {
				return nil, err
			}
			defer reader.Release()
			reader.Next()
			how, err := stop(info)
			if err != nil {
				return nil, err
			}
			for reader.Next() {
			}
			if err := reader.Err(); err != nil && !errors.Is(err, io.EOF) {
				return []string{how, code(err)}, nil
			}
			return []string{how, "ended"}, nil
		})
	}
	stopped("cancel", func(info *flight.FlightInfo) (string, error) {
		result, err := client.CancelFlightInfo(ctx, &flight.CancelFlightInfoRequest{Info: info})
		return result.GetStatus().String(), err
	})
	stopped("cancel in the older form", func(info *flight.FlightInfo) (string, error) {
		result, err := client.CancelQuery(ctx, info) //lint:ignore SA1019 the older form is what is asked here
		return result.String(), err
	})
}

// refusedCases sends what is not served.
func refusedCases(ctx context.Context, client *flightsql.Client) {
	plan := flightsql.SubstraitPlan{Plan: []byte{10, 0}, Version: "0.50.0"}
	report("substrait query", func() (any, error) { return client.ExecuteSubstrait(ctx, plan) })
	report("substrait update", func() (any, error) { return client.ExecuteSubstraitUpdate(ctx, plan) })
	report("prepared substrait", func() (any, error) { return client.PrepareSubstrait(ctx, plan) })
}

// session sets options, reads them, closes the session, and tells what a call then meets.
func session(address, user, password string) (any, error) {
	client, ctx, err := login(address, user, password)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	values, err := flight.NewSessionOptionValues(map[string]any{"time_zone": "Asia/Tokyo", "nonsense": "1"})
	if err != nil {
		return nil, err
	}
	set, err := client.SetSessionOptions(ctx, &flight.SetSessionOptionsRequest{SessionOptions: values})
	if err != nil {
		return nil, err
	}
	found, err := client.GetSessionOptions(ctx, &flight.GetSessionOptionsRequest{})
	if err != nil {
		return nil, err
	}
	closed, err := client.CloseSession(ctx, &flight.CloseSessionRequest{})
	if err != nil {
		return nil, err
	}
	_, err = query(ctx, client, "SELECT 1")
	return map[string]any{
		"refused": set.GetErrors()["nonsense"].GetValue().String(),
		"errors":  len(set.GetErrors()),
		"zone":    found.GetSessionOptions()["time_zone"].GetStringValue(),
		"closed":  closed.GetStatus().String(),
		"then":    code(err),
	}, nil
}

// ingest sends rows in bulk into a table that is made for them, then appends them again.
func ingest(ctx context.Context, client *flightsql.Client) (any, error) {
	counts := []int64{}
	for range 2 {
		batch := notes(client, 1, 2, 3)
		reader, err := array.NewRecordReader(batch.Schema(), []arrow.RecordBatch{batch})
		if err != nil {
			return nil, err
		}
		count, err := client.ExecuteIngest(ctx, reader, &flightsql.ExecuteIngestOpts{
			Table: "bulk",
			TableDefinitionOptions: &flightsql.TableDefinitionOptions{
				IfNotExist: flightsql.TableDefinitionOptionsTableNotExistOptionCreate,
				IfExists:   flightsql.TableDefinitionOptionsTableExistsOptionAppend,
			},
		})
		reader.Release()
		if err != nil {
			return nil, err
		}
		counts = append(counts, count)
	}
	rows, err := query(ctx, client, "SELECT id, note FROM bulk ORDER BY id, note")
	return []any{counts, rows}, err
}

// savepoint asks for one in a transaction, which then goes on.
func savepoint(ctx context.Context, client *flightsql.Client) {
	report("savepoint", func() (any, error) {
		one, err := client.BeginTransaction(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = one.Rollback(ctx) }()
		_, err = one.BeginSavepoint(ctx, "here")
		return "begun", err
	})
	report("end of a savepoint", func() (any, error) {
		one, err := client.BeginTransaction(ctx)
		if err != nil {
			return nil, err
		}
		defer func() { _ = one.Rollback(ctx) }()
		return "ended", one.ReleaseSavepoint(ctx, flightsql.Savepoint("here"))
	})
}
